"""Checkpoints: the states of our own runs, and the weights that other code trained."""
