"""The interface of a post-processing, which changes similarities before they are ranked.

Post-processing lowers the scores of hubs, gallery items that are near to many queries. How near an
item is to queries in general is learnt from other queries: from all test queries, which a search
engine does not have at once, or from a *bank* of training data.

A post-processing knows queries and a gallery, not texts and videos, so one file serves both
directions. Two figures of which only one is post-processed are never comparable.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from xpool.postprocessing.banks import Bank, Scores

# Elements of a matrix that are held in float64 at a time, beside the result.
BLOCK = 2**22


class PostProcessing(ABC):
    """A post-processing; the arguments of its constructor come from ``params.yaml``."""

    title: ClassVar[str]
    """Printed name."""
    needs_queries: bool = False
    """Whether a query's scores depend on the other test queries."""
    needs_bank: bool = False
    """Whether scores depend on training data."""

    def apply(self, similarity: Scores, bank: Bank | None = None) -> NDArray[np.float64]:
        """Return the new scores.

        They are float64: products with a softmax span more magnitudes than float32 has, and what
        vanishes would tie. Scores are comparable within a query only.

        Args:
            similarity: ``(query, gallery)``, higher is nearer.
            bank: needed if ``needs_bank``, else not used.

        Returns:
            ``(query, gallery)``.

        Raises:
            ValueError: the bank is missing, or is of another gallery.
        """
        if not self.needs_bank:
            return self._scores(similarity, None)
        if bank is None:
            raise ValueError(f"{type(self).__name__} needs a bank")
        for name, part in bank._asdict().items():
            if part.ndim != 2 or not len(part) or part.shape[1] != similarity.shape[1]:
                raise ValueError(
                    f"expected a bank ({name}, {similarity.shape[1]}) that is not empty; "
                    f"got {part.shape}"
                )
        return self._scores(similarity, bank)

    @abstractmethod
    def _scores(self, similarity: Scores, bank: Bank | None) -> NDArray[np.float64]:
        """Return the new scores ``(query, gallery)``; the bank is there if ``needs_bank``."""


def log_sum(scores: Scores, factor: float, more: Scores | float = 0.0) -> NDArray[np.float64]:
    """Return the logarithm of ``sum over rows of exp(factor * scores + more)``.

    Args:
        scores: ``(row, column)``.
        factor: multiplies the scores.
        more: ``(row,)``, or one number.

    Returns:
        ``(column,)``.
    """
    added = np.reshape(more, (-1, 1))
    found = [
        logsumexp(factor * scores[:, part].astype(np.float64) + added, axis=0)
        for part in blocks(scores.shape[1], len(scores))
    ]
    return np.concatenate(found)


def scaled(scores: Scores, factor: float) -> NDArray[np.float64]:
    """Return ``factor * scores`` in float64, a new array."""
    return np.multiply(scores, factor, dtype=np.float64)


def activated(bank: Scores, k: int) -> NDArray[np.bool_]:
    """Return the gallery items that are among the ``k`` nearest of a bank's item.

    Items that tie with the k-th are among them, so the gallery's order does not matter.

    Args:
        bank: ``(bank item, gallery)``.
        k: number of items; a smaller gallery is activated as a whole.

    Returns:
        ``(gallery,)``.
    """
    n_item, n_gallery = bank.shape
    kth = n_gallery - min(k, n_gallery)
    found = np.zeros(n_gallery, bool)
    for part in blocks(n_item, n_gallery):
        rows = bank[part]
        found |= (rows >= np.partition(rows, kth, axis=1)[:, kth, None]).any(axis=0)
    return found


def hit(similarity: Scores, items: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the queries whose nearest gallery item, or one that ties with it, is one of these.

    Args:
        similarity: ``(query, gallery)``.
        items: ``(gallery,)``.

    Returns:
        ``(query,)``.
    """
    if not items.any():
        return np.zeros(len(similarity), bool)
    found: NDArray[np.bool_] = similarity[:, items].max(axis=1) == similarity.max(axis=1)
    return found


def blocks(length: int, width: int) -> Iterator[slice]:
    """Yield slices of an axis, each with up to :data:`BLOCK` elements of ``width`` a line."""
    size = max(1, BLOCK // max(1, width))
    for start in range(0, length, size):
        yield slice(start, start + size)


def positive(**arguments: float) -> None:
    """Refuse arguments of a constructor that are not above 0.

    Raises:
        ValueError: names the argument.
    """
    for name, value in arguments.items():
        if not value > 0:
            raise ValueError(f"{name} must be above 0; got {value}")
