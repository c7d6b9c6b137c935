"""Text to video search by a trained run: over a benchmark's test split, or one's own videos."""
