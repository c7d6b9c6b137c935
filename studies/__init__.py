"""Ablation studies; each file asks one question, and plans the trials that answer it."""
