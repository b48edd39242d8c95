"""The phases of a run: schedules, epochs, the controller of the strength, processes, checkpoints' folder, the end."""
