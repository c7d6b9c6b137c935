"""R@1 of the queries in each bin of an attribute, and what X-Pool adds there.

Works on arrays and reads no files. In each bin the two methods are compared as in the tables
(``xpool.statistics.paired``), over seeds and videos. Whether the effect depends on the attribute is
asked once: :func:`interactions`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xpool.data.shots import quantile_bins
from xpool.project.seeds import seed_for
from xpool.statistics.bootstrap import estimate
from xpool.statistics.paired import Comparison, compare, holm

BINS = 3
"""Bins of an attribute that is a number."""
LEAST_VIDEOS = 10
"""A bin of fewer videos is shown and not tested."""
REPLICATES = 2_000
REPLICATES_PER_TEST = 100
"""At least so many for each test of a table, as in :mod:`xpool.statistics.results`."""
TESTED = ("delta", "ci_low", "ci_high", "p_value")
SLICES = (
    "benchmark", "attribute", "bin", "low", "high", "category", "n_queries", "n_videos", "method",
    "R@1", "n_seeds", *TESTED, "p_table",
)  # fmt: skip
INTERACTIONS = ("benchmark", "attribute", "method", "bin", "minus_bin", *TESTED, "p_table")

Values = Mapping[str, NDArray[np.float64]]
"""``(seed, query)`` hits in percent of each method, X-Pool among them."""


@dataclass(frozen=True, kw_only=True)
class Bin:
    """The queries whose attribute lies in a range, or is of a category."""

    number: int
    """From 1; ranges ascend, categories come by their number of queries, most first."""
    low: float
    """Least value; NaN for a category, and where queries have no value."""
    high: float
    category: str
    """Empty for a range, and where queries have no value."""
    here: NDArray[np.bool_]
    """``(query,)``"""
    n_videos: int

    @property
    def valued(self) -> bool:
        """Whether the queries have a value."""
        return bool(self.category) or np.isfinite(self.low)

    @property
    def tested(self) -> bool:
        """Whether there are enough videos for a test."""
        return self.n_videos >= LEAST_VIDEOS


def bins_of(attribute: pd.Series, video: NDArray[Any]) -> list[Bin]:
    """Return the bins of an attribute; each query is in one.

    Args:
        attribute: ``(query,)`` numbers or categories; NaN where there is no value, which is a bin
            of its own.
        video: ``(query,)`` video of each query.

    Example:
        >>> bins = bins_of(pd.Series([3.0, 3, 5, 9, np.nan]), np.arange(5))
        >>> [(one.low, one.high, int(one.here.sum())) for one in bins]
        [(3.0, 3.0, 2), (5.0, 5.0, 1), (9.0, 9.0, 1), (nan, nan, 1)]
    """
    known = attribute.notna().to_numpy(bool)
    found: list[tuple[float, float, str, NDArray[np.bool_]]] = []
    if pd.api.types.is_numeric_dtype(attribute):
        of_known, bounds = quantile_bins(attribute.to_numpy(float)[known], BINS)
        of_query = np.full(len(known), -1)
        of_query[known] = of_known
        found += [(low, high, "", of_query == n) for n, (low, high) in enumerate(bounds)]
    else:
        counts = attribute.value_counts().sort_index().sort_values(ascending=False, kind="stable")
        found += [(np.nan, np.nan, str(c), (attribute == c).to_numpy(bool)) for c in counts.index]
    if not known.all():
        found.append((np.nan, np.nan, "", ~known))
    return [
        Bin(
            number=number, low=low, high=high, category=category, here=here,
            n_videos=len(np.unique(video[here])),
        )
        for number, (low, high, category, here) in enumerate(found, start=1)
    ]  # fmt: skip


def slices(
    benchmark: str, values: Values, video: NDArray[Any], attributes: pd.DataFrame
) -> pd.DataFrame:
    """Return R@1 of each method in each bin, and X-Pool minus it.

    Args:
        benchmark: its short name.
        values: hits of the text-to-video queries.
        video: ``(query,)`` video of each query.
        attributes: ``(query, attribute)`` of
            :func:`xpool.statistics.slices.attributes.query_attributes`.

    Returns:
        Columns :data:`SLICES`. ``delta`` is X-Pool minus ``method`` with its interval; ``p_table``
        is corrected over all bins of all attributes (for each method). They are NaN for X-Pool, and
        in bins of fewer than :data:`LEAST_VIDEOS` videos but for ``delta``.
    """
    bins = {str(name): bins_of(column, video) for name, column in attributes.items()}
    replicates = _replicates(sum(one.tested for of_name in bins.values() for one in of_name))
    rows = []
    for name, of_name in bins.items():
        for one in of_name:
            ours = values["xpool"][:, one.here]
            for method, of_method in values.items():
                theirs = of_method[:, one.here]
                row: dict[str, Any] = {
                    "benchmark": benchmark, "attribute": name, "bin": one.number, "low": one.low,
                    "high": one.high, "category": one.category, "n_queries": int(one.here.sum()),
                    "n_videos": one.n_videos, "method": method, "R@1": estimate(theirs, "R@1"),
                    "n_seeds": len(theirs),
                }  # fmt: skip
                if method != "xpool":
                    row["delta"] = estimate(ours, "R@1") - row["R@1"]
                    if one.tested:
                        scope = (benchmark, method, name, str(one.number))
                        row |= _compared(theirs, ours, video[one.here], "R@1", scope, replicates)
                rows.append(row)
    return _corrected(rows, SLICES)


def interactions(
    benchmark: str, values: Values, video: NDArray[Any], attributes: pd.DataFrame
) -> pd.DataFrame:
    """Ask of each attribute whether X-Pool adds more in the highest bin than in the lowest.

    Bins without a value or with too few videos are passed over. Of categories, the two with most
    queries are taken. The arguments are those of :func:`slices`.

    Returns:
        Columns :data:`INTERACTIONS`. ``delta`` is the effect in ``bin`` minus that in
        ``minus_bin``, an effect being X-Pool minus ``method``; ``p_table`` is corrected over the
        attributes (for each method).
    """
    pairs: dict[str, tuple[Bin, Bin]] = {}
    for name, column in attributes.items():
        usable = [one for one in bins_of(column, video) if one.valued and one.tested]
        if len(usable) > 1:
            last = usable[1] if usable[0].category else usable[-1]
            pairs[str(name)] = (last, usable[0])
    rows = []
    for name, (high, low) in pairs.items():
        here = high.here | low.here
        ours = contrast(values["xpool"][:, here], high.here[here])
        for method in (method for method in values if method != "xpool"):
            theirs = contrast(values[method][:, here], high.here[here])
            scope = ("interaction", benchmark, method, name)
            # a mean that may be negative: not a share of queries
            found = _compared(theirs, ours, video[here], "MnR", scope, _replicates(len(pairs)))
            row = {"benchmark": benchmark, "attribute": name, "method": method}
            rows.append(row | {"bin": high.number, "minus_bin": low.number} | found)
    return _corrected(rows, INTERACTIONS)


def contrast(values: NDArray[np.float64], high: NDArray[np.bool_]) -> NDArray[np.float64]:
    r"""Return figures of single queries whose mean is that of some queries minus that of the rest.

    With :math:`m_1, m_0` the two means and :math:`n_1, n_0` the two numbers of queries, a query of
    the first part stands for :math:`m_1 - m_0 + \frac{n}{n_1} (x - m_1)`, one of the rest for
    :math:`m_1 - m_0 - \frac{n}{n_0} (x - m_0)`. Their mean over videos drawn with replacement
    varies as the difference of the two means does, to first order, so that the difference is
    compared like any mean.

    Args:
        values: ``(seed, query)``.
        high: ``(query,)`` the first part; neither part is empty.

    Source:
        The influence function of a difference of two ratios: Davison and Hinkley 1997, Bootstrap
        Methods and their Application, section 2.7.

    Example:
        >>> contrast(np.array([[1.0, 3.0, 4.0]]), np.array([True, True, False])).tolist()
        [[-3.5, -0.5, -2.0]]
    """
    n = values.shape[1]
    means = [values[:, part].mean(axis=1, keepdims=True) for part in (high, ~high)]
    parts = n / high.sum() * (values - means[0]), -n / (~high).sum() * (values - means[1])
    return np.asarray(means[0] - means[1] + np.where(high, *parts))


def _replicates(n_tests: int) -> int:
    return max(REPLICATES, REPLICATES_PER_TEST * n_tests)


def _compared(
    theirs: NDArray[Any],
    ours: NDArray[Any],
    video: NDArray[Any],
    metric: str,
    scope: Sequence[str],
    replicates: int,
) -> dict[str, float]:
    rng = np.random.default_rng(seed_for("statistics", "slices", *scope))
    found: Comparison = compare(theirs, ours, video, metric, rng, replicates)
    return {name: getattr(found, name) for name in TESTED}


def _corrected(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Return a table with p-values corrected for each method; ``p_table`` is their column."""
    table = pd.DataFrame(rows, columns=list(columns))
    p_values = table["p_value"].astype(float)
    return table.assign(
        p_table=p_values.groupby(table["method"]).transform(lambda one: holm(one.to_numpy()))
    )
