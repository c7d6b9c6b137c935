"""Recipe to checkpoint: data, towers, model, the training loop, selection, evaluation."""
