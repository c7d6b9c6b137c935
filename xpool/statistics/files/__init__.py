"""Scores and ranks in files of any code base, read as queries that can be compared."""
