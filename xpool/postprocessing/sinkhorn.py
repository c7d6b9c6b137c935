"""Sinkhorn: rows and columns are normalised in turn, and the gallery's factors are kept."""

import numpy as np
from numpy.typing import NDArray

from xpool.postprocessing.banks import Bank, Scores
from xpool.postprocessing.base import PostProcessing, log_sum, positive, scaled


class Sinkhorn(PostProcessing):
    """``temperature * s`` plus the logarithm of the gallery item's factor.

    The factors scale ``exp(temperature * s)`` of a set of queries so that each item's sum over
    them, and, but for the last step, each query's sum over the items, is the same. The queries are
    those of the bank, or all test queries. A query's own factor does not change its order.

    Source: Park et al. 2022 (arXiv 2212.11790); Ziyang412/UCoFiA@6098be2
    ``eval_t2v/main_ucofia.py:sinkhorn_knopp``, with 4 iterations, whose similarities are scaled
    already; Yakovlev et al. 2023 (arXiv 2311.08143) for test queries.
    """

    title = "Sinkhorn"

    def __init__(self, temperature: float = 100.0, iterations: int = 4, bank: bool = True) -> None:
        """Make it.

        Args:
            temperature: multiplies the similarities, as CLIP's scale does.
            iterations: how often queries and gallery are normalised in turn.
            bank: whether the queries are training data; else they are all test queries.
        """
        positive(temperature=temperature, iterations=iterations)
        self.temperature, self.iterations = temperature, iterations
        self.needs_bank, self.needs_queries = bank, not bank

    def _scores(self, similarity: Scores, bank: Bank | None) -> NDArray[np.float64]:
        queries = similarity if bank is None else bank.queries
        of_gallery = -log_sum(queries, self.temperature)
        for _ in range(self.iterations):
            of_query = -log_sum(queries.T, self.temperature, of_gallery)
            of_gallery = -log_sum(queries, self.temperature, of_query)
        return scaled(similarity, self.temperature) + of_gallery


POSTPROCESSING = Sinkhorn
