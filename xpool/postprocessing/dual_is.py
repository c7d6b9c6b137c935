"""DualIS: two inverted softmaxes, over training queries and over training gallery items."""

import numpy as np
from numpy.typing import NDArray

from xpool.postprocessing.banks import Bank, Scores
from xpool.postprocessing.base import PostProcessing, log_sum, positive, scaled


class DualIS(PostProcessing):
    """Logarithm of the product of two inverted softmaxes.

    ``exp(beta_queries * s) / sum over bank queries of exp(beta_queries * s)``, times
    ``exp(beta_gallery * s) / sum over bank items of exp(beta_gallery * s)``. A hub is near to many
    queries, and to many items of its own kind.

    Source: Wang et al. 2023 (arXiv 2310.11612); yimuwangcs/Better_Cross_Modal_Retrieval@c055b86
    ``DBNorm/dbnorm.py:db_norm``, whose second factor is given the gallery bank in place of the
    test similarity, taken here for a slip.
    """

    title = "DualIS"
    needs_bank = True

    def __init__(self, beta_queries: float = 1 / 1.99, beta_gallery: float = 3.0) -> None:
        """Make it; the arguments multiply the similarities with either bank."""
        positive(beta_queries=beta_queries, beta_gallery=beta_gallery)
        self.beta_queries, self.beta_gallery = beta_queries, beta_gallery

    def _scores(self, similarity: Scores, bank: Bank | None) -> NDArray[np.float64]:
        assert bank is not None
        scores = scaled(similarity, self.beta_queries + self.beta_gallery)
        scores -= log_sum(bank.queries, self.beta_queries)
        scores -= log_sum(bank.gallery, self.beta_gallery)
        return scores


POSTPROCESSING = DualIS
