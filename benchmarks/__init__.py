"""Measurements of the harness itself: speed and memory, and how often its intervals are right."""
