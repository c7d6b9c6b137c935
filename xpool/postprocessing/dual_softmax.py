"""Dual softmax: each similarity times its softmax over the queries."""

import numpy as np
from numpy.typing import NDArray

from xpool.postprocessing.banks import Bank, Scores
from xpool.postprocessing.base import PostProcessing, log_sum, positive, scaled


class DualSoftmax(PostProcessing):
    """``s * softmax over queries of (temperature * s)``.

    It rewards a gallery item for being nearer to this query than to the other queries of the test,
    of which each item has one; a query that arrives alone gains nothing.

    Source: CAMoE (arXiv 2109.04290), as CLIP4Clip's successors apply it after training.
    """

    title = "dual softmax"
    needs_queries = True

    def __init__(self, temperature: float = 100.0) -> None:
        """Make it.

        Args:
            temperature: multiplies the similarities, as in the sources: 100 in T-MASS and CLIP-ViP,
                1 in TS2-Net.
        """
        positive(temperature=temperature)
        self.temperature = temperature

    def _scores(self, similarity: Scores, bank: Bank | None) -> NDArray[np.float64]:
        share = scaled(similarity, self.temperature)
        share -= log_sum(similarity, self.temperature)
        np.exp(share, out=share)
        share *= similarity
        return share


POSTPROCESSING = DualSoftmax
