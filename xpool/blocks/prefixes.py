"""Token-wise interaction of all pairs, where texts that begin alike share their beginning.

In a causal text tower a word's embedding depends on the words before it alone, so "a man is
singing" and "a man is cooking" share those of their start and three words. Of MSVD's 257,725 test
tokens 120,225 are distinct. Cosines, and the maxima over a text's words, are computed once for
each distinct beginning. Where no texts begin alike, what is saved is their padding.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, normalize

from xpool.blocks.words import TokenWeights, Words, unit_without_padding
from xpool.pooling import masked_softmax, slices, tied

# Cosines of a block of videos: enough videos for matrix products at full speed.
MEMORY_MIB = {"cpu": 128, "cuda": 1024}
ROWS = 8192
"""Number of embeddings that are weighed at once."""


@dataclass(frozen=True, kw_only=True)
class Prefixes:
    """The distinct beginnings of texts: the nodes of a tree, in which shorter ones come first."""

    row: Tensor
    """``(node,)``: the row of ``Words.values`` of the node's last word."""
    parents: list[Tensor]
    """For each number of words, the nodes of that many have these nodes as their beginnings."""
    of_word: Tensor
    """``(word,)``: the node that ends in each word, text after text."""
    of_text: Tensor
    """``(text,)``: the node that is the whole text."""

    @classmethod
    def of(cls, words: Words) -> "Prefixes":
        """Find the beginnings whose embeddings are the same to the bit."""
        rows, exists = words.rows()
        nodes = torch.zeros_like(rows)
        row, parents, n_node = [], [], 0
        node = rows.new_zeros(len(rows))
        for number in range(rows.shape[1]):
            texts = exists[:, number].nonzero()[:, 0]
            of_texts = rows[texts, number]
            _, kind = torch.unique(words.values[of_texts], dim=0, return_inverse=True)
            pairs, place = (node[texts] * len(texts) + kind).unique(return_inverse=True)
            row.append(torch.empty_like(pairs).scatter_(0, place, of_texts))
            parents.append(pairs // len(texts))
            node[texts] = n_node + place
            nodes[texts, number] = node[texts]
            n_node += len(pairs)
        return cls(row=torch.cat(row), parents=parents, of_word=nodes[exists], of_text=node)

    def weights(self, words: Words, weigh: TokenWeights) -> Tensor:
        """Weigh the words of each text; returns ``(word,)``, text after text."""
        of_node = torch.cat([weigh.logits(words.values[rows]) for rows in self.row.split(ROWS)])
        rows, exists = Words.of(of_node, words.count).rows()
        return masked_softmax(of_node[self.of_word][rows], exists)[exists]

    def interaction(
        self, words: Words, word_weights: Tensor, frames: tuple[Tensor, Tensor, Tensor]
    ) -> Tensor:
        """Return :func:`xpool.blocks.words.interaction` of all pairs, without gradient.

        Holds the normalised embeddings of the distinct beginnings, and :data:`MEMORY_MIB` of
        cosines, or those of one video.

        Args:
            words: those of :meth:`of`.
            word_weights: ``(word,)``: the weights ``a``, text after text.
            frames: ``(video, frame, dim)``, the ``(video, frame)`` mask, and the weights ``b``, of
                that shape, 0 at padding.

        Returns:
            ``(text, video)``; for a text that tells the videos apart by rounding only, all are
            equal.
        """
        values, mask, frame_weights = frames
        nodes = words.values[self.row]
        normalize(nodes, dim=1, eps=torch.finfo(nodes.dtype).tiny, out=nodes)
        first_word = words.count.cumsum(0) - words.count
        scores = values.new_empty(len(words), len(values))
        memory = MEMORY_MIB["cuda" if values.is_cuda else "cpu"] * 2**20
        n_video = max(1, memory // (len(nodes) * mask.shape[1] * values.element_size()))
        for videos in slices(len(values), n_video):
            of_block = unit_without_padding(values[videos], mask[videos]).movedim(1, 0)
            cosines = (nodes @ of_block.flatten(0, 1).mT).view(len(nodes), *of_block.shape[:2])
            by_words = embedding_bag(  # of each text, the weighted sum over its words
                self.of_word,
                cosines.amax(dim=1),
                first_word,
                mode="sum",
                per_sample_weights=word_weights,
            )
            seen = len(self.parents[0])
            for parent in self.parents[1:]:  # the maximum over the words of each beginning
                of_level = cosines[seen : seen + len(parent)]
                torch.maximum(of_level, cosines[parent], out=of_level)
                seen += len(parent)
            by_frames = torch.einsum("tfv,vf->tv", cosines[self.of_text], frame_weights[videos])
            scores[:, videos] = (by_words + by_frames) / 2
        return tied(scores)
