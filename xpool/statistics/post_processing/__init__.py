"""Ranks, intervals and query counts of the listed post-processing."""
