"""Inverted softmax: the softmax over the queries in place of the similarity."""

import numpy as np
from numpy.typing import NDArray

from xpool.postprocessing.banks import Bank, Scores
from xpool.postprocessing.base import PostProcessing, log_sum, positive, scaled


class InvertedSoftmax(PostProcessing):
    """Logarithm of ``softmax over queries of (beta * s)``, which has the same order.

    Source: Smith et al. 2017 (arXiv 1702.03859);
    yimuwangcs/Better_Cross_Modal_Retrieval@c055b86 ``DBNorm/dbnorm.py``, whose ``beta`` is 20.
    """

    title = "inverted softmax"
    needs_queries = True

    def __init__(self, beta: float = 20.0) -> None:
        """Make it; ``beta`` multiplies the similarities."""
        positive(beta=beta)
        self.beta = beta

    def _scores(self, similarity: Scores, bank: Bank | None) -> NDArray[np.float64]:
        return scaled(similarity, self.beta) - log_sum(similarity, self.beta)


POSTPROCESSING = InvertedSoftmax
