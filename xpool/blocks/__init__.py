"""Parts that several methods share: CLIP's layers, X-Pool's block, words and their comparison."""
