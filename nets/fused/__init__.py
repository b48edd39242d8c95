"""The prox at the speed of memory: a table of segments and compiled loops over it."""
