"""Verify runs from what they left behind: checks of files and params, and scores made again."""
