"""The tree of beginnings against sets of tuples, and its interaction against padded texts."""

import pytest
import torch

from baselines.token_max import TokenMax
from baselines.wti import WeightedTokenMax
from xpool.blocks import prefixes
from xpool.blocks.prefixes import Prefixes
from xpool.blocks.words import Words
from xpool.similarity import similarity

TEXTS = [(0, 1, 2), (0, 1), (0, 3, 2, 4), (0, 1, 2), (5,), (0, 3, 2), (1, 2)]
"""Each word's number; the same word after another beginning is another word to the tree."""
DIM = 8


def words_of(texts, of_text):
    """The words of texts, whose embeddings ``of_text`` gives."""
    values = torch.stack([value for text in texts for value in of_text(text)])
    return Words.of(values, torch.tensor([len(text) for text in texts]))


def of_vocabulary(text):
    """An embedding for each word, wherever it stands."""
    table = torch.randn(10, DIM, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return table[list(text)]


def of_causal_tower(text):
    """An embedding for each beginning."""
    return of_vocabulary(text).cumsum(dim=0)


@pytest.mark.parametrize("of_text", [of_vocabulary, of_causal_tower])
@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4, 5, 6], [2], [6, 2, 2, 0]])
def test_nodes_are_the_distinct_beginnings(of_text, rows):
    words = words_of(TEXTS, of_text)[torch.tensor(rows)]
    tree = Prefixes.of(words)
    texts = [TEXTS[row] for row in rows]
    beginnings = {text[:n] for text in texts for n in range(1, len(text) + 1)}
    assert len(tree.row) == len(beginnings)
    assert [len(level) for level in tree.parents] == [
        sum(len(beginning) == n for beginning in beginnings)
        for n in range(1, max(map(len, texts)) + 1)
    ]

    parent = torch.cat(tree.parents).tolist()
    first = len(tree.parents[0])

    def chain(node):
        before = [] if node < first else chain(parent[node])
        return [*before, words.values[tree.row[node]]]

    of_word = iter(tree.of_word.tolist())
    for text, whole in zip(texts, tree.of_text.tolist(), strict=True):
        for number in range(1, len(text) + 1):
            torch.testing.assert_close(
                torch.stack(chain(next(of_word))), of_text(text)[:number], rtol=0, atol=0
            )
        assert torch.equal(torch.stack(chain(whole)), of_text(text))


@pytest.mark.parametrize("memory_mib", [128, 1e-9])
@pytest.mark.parametrize("make", [TokenMax, lambda: WeightedTokenMax(DIM)])
@pytest.mark.parametrize("of_text", [of_vocabulary, of_causal_tower])
def test_interaction_is_that_of_padded_texts(memory_mib, make, of_text, monkeypatch):
    monkeypatch.setitem(prefixes.MEMORY_MIB, "cpu", memory_mib)
    monkeypatch.setattr(prefixes, "ROWS", 3)
    torch.manual_seed(0)
    method, words = make().double(), words_of(TEXTS, of_text)
    text, frames = torch.randn(7, DIM).double(), torch.randn(5, 4, DIM).double()
    mask = torch.tensor(
        [[True] * 4, [True] * 4, [False, True, True, False], [True] * 4, [True, *[False] * 3]]
    )
    direct, factorised = (
        similarity(method, text, frames, mask, words, scorer=form)
        for form in ("direct", "factorised")
    )
    torch.testing.assert_close(factorised, direct, rtol=0, atol=1e-12)
    assert direct.std() > 0.1


def test_padding_of_words_is_no_beginning():
    """A short text is not the longest's beginning, unless its words are."""
    words = words_of([(0,), (0, 0)], of_vocabulary)
    tree = Prefixes.of(words)
    assert tree.of_text.tolist() == [0, 1]
    assert tree.of_word.tolist() == [0, 0, 1]
