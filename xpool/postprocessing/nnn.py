"""NNN: each similarity less a share of the item's mean over its nearest training queries."""

import numpy as np
from numpy.typing import NDArray

from xpool.postprocessing.banks import Bank, Scores
from xpool.postprocessing.base import PostProcessing, blocks, positive, scaled


class NNN(PostProcessing):
    """``s - alpha * mean of the k highest similarities of the gallery item to the bank's queries``.

    Source: nearest neighbour normalisation, Chowdhury et al. 2024 (arXiv 2410.24114);
    multimodal-interpretability/nnn@cea80de ``nnn/nnn_retriever.py``, its README for the values.
    """

    title = "NNN"
    needs_bank = True

    def __init__(self, k: int = 128, alpha: float = 0.75) -> None:
        """Make it; ``k`` and ``alpha`` as above."""
        positive(k=k, alpha=alpha)
        self.k, self.alpha = k, alpha

    def _scores(self, similarity: Scores, bank: Bank | None) -> NDArray[np.float64]:
        assert bank is not None
        n_query, n_gallery = bank.queries.shape
        if self.k > n_query:
            raise ValueError(f"k is {self.k}, but the bank has {n_query} queries")
        first = n_query - self.k
        bias = [
            np.partition(bank.queries[:, part], first, axis=0)[first:].mean(axis=0, dtype=float)
            for part in blocks(n_gallery, n_query)
        ]
        return scaled(similarity, 1.0) - self.alpha * np.concatenate(bias)


POSTPROCESSING = NNN
