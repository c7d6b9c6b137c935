"""Each post-processing against its formula written out, published figures, and its contract."""

import math
from pathlib import Path

import numpy as np
import pytest

from xpool.metrics import retrieval_metrics
from xpool.postprocessing import base
from xpool.postprocessing.banks import Bank
from xpool.postprocessing.base import activated, hit, log_sum
from xpool.postprocessing.dual_dis import DualDIS
from xpool.postprocessing.dual_is import DualIS
from xpool.postprocessing.dual_softmax import DualSoftmax
from xpool.postprocessing.inverted_softmax import InvertedSoftmax
from xpool.postprocessing.nnn import NNN
from xpool.postprocessing.qb_norm import QBNorm
from xpool.postprocessing.sinkhorn import Sinkhorn
from xpool.project import plugins

SHARED = Path(__file__).resolve().parents[3] / "shared"
N_QUERY, N_GALLERY, N_BANK = 13, 9, 11
SMALL = {"nnn": {"k": 4}}
"""Arguments for the contract of members whose own are too large for a small bank."""
MEMBERS = plugins.members("xpool.postprocessing", "POSTPROCESSING")


def cosines(rng, *shape):
    return rng.uniform(-0.4, 0.6, shape).astype(np.float32)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def similarity(rng):
    return cosines(rng, N_QUERY, N_GALLERY)


@pytest.fixture
def bank(rng):
    return Bank(
        queries=cosines(rng, N_BANK, N_GALLERY), gallery=cosines(rng, N_BANK - 2, N_GALLERY)
    )


@pytest.fixture(params=[1, 20, base.BLOCK])
def block(request, monkeypatch):
    """Matrices in one block and in many."""
    monkeypatch.setattr(base, "BLOCK", request.param)


@pytest.fixture(params=[*MEMBERS, "sinkhorn of test queries"])
def member(request):
    name = request.param.partition(" ")[0]
    arguments = SMALL.get(name, {}) | ({"bank": False} if " " in request.param else {})
    return plugins.load(f"xpool.postprocessing.{name}", "POSTPROCESSING")(**arguments)


def each(scores):
    """Return every query and gallery item with its score in double precision."""
    return [(q, g, float(s)) for q, row in enumerate(scores) for g, s in enumerate(row)]


# --- oracles: the formulas as loops, with no logarithm and no block ---


@pytest.mark.usefixtures("block")
def test_dual_softmax_is_its_formula(similarity):
    new = DualSoftmax(temperature=30.0).apply(similarity)
    for q, g, s in each(similarity):
        total = sum(math.exp(30 * float(other)) for other in similarity[:, g])
        assert new[q, g] == pytest.approx(s * math.exp(30 * s) / total, rel=1e-6)


@pytest.mark.usefixtures("block")
def test_inverted_softmax_is_its_formula(similarity):
    new = InvertedSoftmax(beta=12.0).apply(similarity)
    for q, g, s in each(similarity):
        total = sum(math.exp(12 * float(other)) for other in similarity[:, g])
        assert math.exp(new[q, g]) == pytest.approx(math.exp(12 * s) / total, rel=1e-6)


def nearest(row, k):
    return set(sorted(range(len(row)), key=lambda g: -row[g])[:k])


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("k", [1, 2])
def test_qb_norm_is_its_formula(similarity, bank, k):
    """Queries of both kinds occur: those that are divided, and those that are not."""
    bank = Bank(bank.queries[: 4 // k], bank.gallery)
    new = QBNorm(beta=15.0, k=k).apply(similarity, bank)
    hubs = set().union(*(nearest(row, k) for row in bank.queries))
    kinds = set()
    for q, g, s in each(similarity):
        divided = bool(nearest(similarity[q], 1) & hubs)
        kinds.add(divided)
        total = sum(math.exp(15 * float(other)) for other in bank.queries[:, g]) if divided else 1
        assert math.exp(new[q, g]) == pytest.approx(math.exp(15 * s) / total, rel=1e-6)
    assert kinds == {True, False}


@pytest.mark.usefixtures("block")
def test_dual_is_is_its_formula(similarity, bank):
    new = DualIS(beta_queries=7.0, beta_gallery=3.0).apply(similarity, bank)
    for q, g, s in each(similarity):
        of_queries = sum(math.exp(7 * float(other)) for other in bank.queries[:, g])
        of_gallery = sum(math.exp(3 * float(other)) for other in bank.gallery[:, g])
        expected = math.exp(7 * s) / of_queries * math.exp(3 * s) / of_gallery
        assert math.exp(new[q, g]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.usefixtures("block")
def test_dual_dis_is_its_formula(similarity, bank):
    """All four kinds of query occur: divided by both sums, by either, by none."""
    bank = Bank(bank.queries[:4], bank.gallery[:5])
    new = DualDIS(beta_queries=7.0, beta_gallery=3.0, k=1).apply(similarity, bank)
    kinds = set()
    for q, g, s in each(similarity):
        expected, kind = math.exp(10 * s), []
        for part, beta in ((bank.queries, 7), (bank.gallery, 3)):
            hubs = set().union(*(nearest(row, 1) for row in part))
            kind.append(bool(nearest(similarity[q], 1) & hubs))
            if kind[-1]:
                expected /= sum(math.exp(beta * float(other)) for other in part[:, g])
        kinds.add(tuple(kind))
        assert math.exp(new[q, g]) == pytest.approx(expected, rel=1e-6)
    assert len(kinds) == 4


@pytest.mark.usefixtures("block")
def test_nnn_is_its_formula(similarity, bank):
    new = NNN(k=4, alpha=0.75).apply(similarity, bank)
    for q, g, s in each(similarity):
        highest = sorted((float(other) for other in bank.queries[:, g]), reverse=True)[:4]
        assert new[q, g] == pytest.approx(s - 0.75 * sum(highest) / 4, abs=1e-6)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("own", [False, True])
def test_sinkhorn_is_its_formula(similarity, bank, own):
    new = Sinkhorn(temperature=10.0, iterations=3, bank=own).apply(similarity, bank)
    matrix = np.exp(10 * np.asarray(bank.queries if own else similarity, float)).tolist()
    rows, columns = range(len(matrix)), range(N_GALLERY)
    b = [1 / sum(matrix[r][c] for r in rows) for c in columns]
    for _ in range(3):
        a = [1 / sum(matrix[r][c] * b[c] for c in columns) for r in rows]
        b = [1 / sum(a[r] * matrix[r][c] for r in rows) for c in columns]
    for q, g, s in each(similarity):
        assert math.exp(new[q, g]) == pytest.approx(math.exp(10 * s) * b[g], rel=1e-6)


# --- published figures ---


@pytest.mark.parametrize(("together", "recall"), [(1000, 52.8), (256, 48.3), (64, 46.1), (1, 48.0)])
def test_dual_softmax_on_a_published_matrix(together, recall):
    """Golden: Cap4Video's video matrix, measured in double precision by others (field.md, 6)."""
    file = SHARED / "reference/cap4video_msrvtt_video_matrix.npy"
    if not file.is_file():
        pytest.skip("needs ../shared/reference")
    matrix = np.load(file)
    member = DualSoftmax()
    parts = [member.apply(matrix[i : i + together]) for i in range(0, len(matrix), together)]
    found = retrieval_metrics(np.concatenate(parts), np.arange(len(matrix)))
    assert round(found["t2v"]["R@1"], 1) == recall


# --- the contract of every member ---


def test_permuting_the_gallery_permutes_its_scores(member, similarity, bank, rng):
    order = rng.permutation(N_GALLERY)
    turned = Bank(bank.queries[:, order], bank.gallery[:, order])
    found = member.apply(similarity[:, order], turned)
    np.testing.assert_allclose(found, member.apply(similarity, bank)[:, order], rtol=1e-12)


def test_permuting_queries_and_bank_permutes_queries(member, similarity, bank, rng):
    order = rng.permutation(N_QUERY)
    turned = Bank(rng.permutation(bank.queries), rng.permutation(bank.gallery))
    found = member.apply(similarity[order], turned)
    np.testing.assert_allclose(found, member.apply(similarity, bank)[order], rtol=1e-12)


def test_a_further_query_changes_other_rows_just_where_a_member_says_so(member, similarity, bank):
    """Only with the bank a query can arrive alone."""
    before = member.apply(similarity[:-1], bank)
    after = member.apply(similarity, bank)[:-1]
    assert np.array_equal(before, after) != member.needs_queries
    assert member.needs_bank != member.needs_queries


def test_inputs_stay_as_they_are(member, similarity, bank):
    copies = [part.copy() for part in (similarity, *bank)]
    member.apply(similarity, bank)
    for part, copy in zip((similarity, *bank), copies, strict=True):
        np.testing.assert_array_equal(part, copy)


def test_sharp_scores_stay_finite_and_apart(member, similarity, bank):
    """At ten times the sources' factors no infinity, at the largest of them no tie by underflow."""
    for factor, finest in ((1000.0, -np.inf), (100.0, 0.0)):
        for name in ("temperature", "beta", "beta_queries", "beta_gallery"):
            if hasattr(member, name):
                setattr(member, name, factor)
        new = member.apply(similarity, bank)
        assert new.dtype == np.float64
        assert np.isfinite(new).all()
        assert (np.diff(np.sort(new, axis=1)) > finest).all()


def test_a_missing_bank_is_refused(member, similarity, bank):
    if not member.needs_bank:
        member.apply(similarity, None)
        return
    with pytest.raises(ValueError, match="needs a bank"):
        member.apply(similarity)
    other = Bank(bank.queries[:, :-1], bank.gallery)
    with pytest.raises(ValueError, match=r"expected a bank \(queries, 9\) .* got \(11, 8\)"):
        member.apply(similarity, other)
    with pytest.raises(ValueError, match=r"\(gallery, 9\) that is not empty; got \(0, 9\)"):
        member.apply(similarity, Bank(bank.queries, bank.gallery[:0]))


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (DualSoftmax, {"temperature": 0.0}),
        (InvertedSoftmax, {"beta": -1.0}),
        (QBNorm, {"k": 0}),
        (DualIS, {"beta_gallery": 0.0}),
        (DualDIS, {"beta_queries": float("nan")}),
        (NNN, {"alpha": 0.0}),
        (Sinkhorn, {"iterations": 0}),
    ],
)
def test_arguments_out_of_range_are_refused(kind, arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"{name} must be above 0"):
        kind(**arguments)


def test_nnn_refuses_a_bank_of_fewer_queries(similarity, bank):
    with pytest.raises(ValueError, match="k is 12, but the bank has 11 queries"):
        NNN(k=12).apply(similarity, bank)


# --- parts that members share ---


def test_items_that_tie_are_activated_together():
    bank = np.array([[0.5, 0.5, 0.1], [0.0, 0.0, 0.0]], np.float32)
    assert activated(bank[:1], 1).tolist() == [True, True, False]
    assert activated(bank, 1).all()
    assert activated(bank[:1], 9).all(), "more than there are"


def test_a_query_is_hit_if_what_ties_with_its_nearest_item_is_activated():
    similarity = np.array([[0.5, 0.5, 0.1], [0.1, 0.2, 0.3]], np.float32)
    assert hit(similarity, np.array([False, True, False])).tolist() == [True, False]
    assert not hit(similarity, np.zeros(3, bool)).any()


def test_log_sum_has_weights_of_rows(similarity):
    more = np.linspace(-1, 1, N_QUERY)
    expected = np.log((np.exp(5.0 * similarity.astype(float)) * np.exp(more)[:, None]).sum(axis=0))
    np.testing.assert_allclose(log_sum(similarity, 5.0, more), expected, rtol=1e-12)
