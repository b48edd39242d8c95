"""A grid of trainings, run some at a time, each in a process of its own."""
