"""What the command line mounts: one command a file."""
