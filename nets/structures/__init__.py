"""Which numbers make one structure: a filter with its normalisation, a hidden unit, a head, slices tied by additions."""
