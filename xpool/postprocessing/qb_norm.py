"""QB-Norm: an inverted softmax over a bank of training queries, where the bank finds a hub."""

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


class QBNorm(PostProcessing):
    """Logarithm of ``exp(beta * s) / sum over the bank of exp(beta * s)`` (dynamic).

    Only the scores of a query whose nearest gallery item is among the ``k`` nearest of a bank's
    query are divided; those of another query keep their order.

    Source: Bogolin et al. 2022 (arXiv 2112.12777), dynamic inverted softmax;
    ioanacroi/qb-norm@76d4d90 ``dynamic_inverted_softmax.py``. Ties are all activated here.
    """

    title = "QB-Norm"
    needs_bank = True

    def __init__(self, beta: float = 20.0, k: int = 1) -> None:
        """Make it.

        Args:
            beta: multiplies the similarities.
            k: nearest gallery items of a bank's query that count as activated.
        """
        positive(beta=beta, k=k)
        self.beta, self.k = beta, k

    def _scores(self, similarity: Scores, bank: Bank | None) -> NDArray[np.float64]:
        assert bank is not None
        scores = scaled(similarity, self.beta)
        rows = hit(similarity, activated(bank.queries, self.k))
        scores[rows] -= log_sum(bank.queries, self.beta)
        return scores


POSTPROCESSING = QBNorm
