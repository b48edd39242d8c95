"""Every layer of a trained network as an exact program, and what was proven about it."""
