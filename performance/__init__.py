"""Measurements of the harness: its speed and memory, and how often its intervals are right."""
