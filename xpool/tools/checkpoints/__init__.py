"""Checkpoints that come from other code, and runs that go to it."""
