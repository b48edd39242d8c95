"""One question a file; each prints a table, and with --out FOLDER keeps it with everything needed to judge it."""
