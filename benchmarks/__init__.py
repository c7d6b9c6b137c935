"""Measurements of the harness itself, run by hand or by ``make bench``."""
