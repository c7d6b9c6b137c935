"""Ablation studies: one file a question."""
