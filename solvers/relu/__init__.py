"""The squared loss behind a ReLU: not convex, so signs of activations are branched on, or binaries of a MILP."""
