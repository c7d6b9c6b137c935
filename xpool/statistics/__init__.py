"""Intervals, tests and verdicts, computed from the ranks of all queries."""
