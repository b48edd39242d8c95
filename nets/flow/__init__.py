"""Follow channels through a network: who writes, passes on, reads and needs each, and which are constant."""
