"""One file for each benchmark: its official files, and how its mini version is written."""
