"""Pruning without training: exact channel choices layer by layer, and least squares for what is left."""
