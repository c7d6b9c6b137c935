"""DualDIS: DualIS, each factor only where its bank finds a hub."""

import numpy as np
from numpy.typing import NDArray

from xpool.postprocessing.banks import Bank, Scores
from xpool.postprocessing.base import (
    PostProcessing,
    activated,
    hit,
    log_sum,
    positive,
    scaled,
)


class DualDIS(PostProcessing):
    """Logarithm of the product of two dynamic inverted softmaxes.

    As DualIS, but a sum divides only the scores of a query whose nearest gallery item is among the
    ``k`` nearest of an item of that bank.

    Source: Wang et al. 2023 (arXiv 2310.11612); yimuwangcs/Better_Cross_Modal_Retrieval@c055b86
    ``DBNorm/dbnorm.py:db_norm``. Where a bank activates nothing, its factor is
    ``exp(beta * s)`` here and ``s`` there, whose product with another ``s`` turns the order of
    negative similarities.
    """

    title = "DualDIS"
    needs_bank = True

    def __init__(
        self, beta_queries: float = 1 / 1.99, beta_gallery: float = 3.0, k: int = 1
    ) -> None:
        """Make it.

        Args:
            beta_queries: multiplies the similarities with the bank of queries.
            beta_gallery: multiplies the similarities with the bank of gallery items.
            k: nearest gallery items of a bank's item that count as activated.
        """
        positive(beta_queries=beta_queries, beta_gallery=beta_gallery, k=k)
        self.beta_queries, self.beta_gallery, self.k = beta_queries, beta_gallery, k

    def _scores(self, similarity: Scores, bank: Bank | None) -> NDArray[np.float64]:
        assert bank is not None
        scores = scaled(similarity, self.beta_queries + self.beta_gallery)
        for part, beta in ((bank.queries, self.beta_queries), (bank.gallery, self.beta_gallery)):
            scores[hit(similarity, activated(part, self.k))] -= log_sum(part, beta)
        return scores


POSTPROCESSING = DualDIS
