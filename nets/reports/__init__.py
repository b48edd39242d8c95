"""Pages and pictures: one run, and several side by side."""
