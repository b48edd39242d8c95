"""Smaller modules in place of a network's own: narrower layers, fewer heads, what is left where nothing is."""
