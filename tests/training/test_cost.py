"""What a method costs, and the two-stage form against slow loops over the scores of all pairs."""

import numpy as np
import pandas as pd
import pytest
import torch

from baselines.mean_pool import MeanPool
from baselines.token_max import TokenMax
from baselines.top_k import TopK
from xpool.blocks.words import Words
from xpool.similarity import similarity, two_stage
from xpool.training.cost import SHORTLISTS, cost_of
from xpool.training.data import Gallery
from xpool.xpool import XPool

N_TEXT, N_VIDEO, N_FRAME, DIM = 30, 12, 4, 8
METHODS = [TopK(1), XPool(DIM), TokenMax()]


@pytest.fixture
def gallery():
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(N_VIDEO, N_FRAME, DIM, generator=generator)
    video = torch.randint(N_VIDEO, (N_TEXT,), generator=generator)
    text = frames[video, 0] + torch.randn(N_TEXT, DIM, generator=generator)
    count = torch.randint(1, 5, (N_TEXT,), generator=generator)
    words = torch.randn(int(count.sum()), DIM, generator=generator)
    texts = pd.DataFrame({"caption_id": range(N_TEXT), "video_id": [f"v{v}" for v in video]})
    mask = torch.arange(N_FRAME) < torch.randint(1, 5, (N_VIDEO, 1), generator=generator)
    video_ids = [f"v{v}" for v in range(N_VIDEO)]
    return Gallery(text, frames, mask, texts, video_ids, Words.of(words, count))


def shortlists(gallery):
    """The order of mean pooling, in float64 (oracle)."""
    frames, text = gallery.frames.double().numpy(), gallery.text.double().numpy()
    means = []
    for video, mask in zip(frames, gallery.mask.numpy(), strict=True):
        means.append(np.mean([f / np.linalg.norm(f) for f in video[mask]], axis=0))
    cosine = [[t @ m / np.linalg.norm(t) / np.linalg.norm(m) for m in means] for t in text]
    return np.argsort(-np.array(cosine), axis=1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("k", [1, 3, N_VIDEO, 100])
def test_two_stage_ranks_the_shortlist_as_the_whole_gallery_does(method, gallery, k):
    text, frames, mask, words = gallery.embeddings()
    whole = similarity(method, text, frames, mask, words).numpy()
    scores, videos = two_stage(method, text, frames, k, mask, words)
    assert scores.shape == videos.shape == (N_TEXT, min(k, N_VIDEO))
    for row, listed in enumerate(shortlists(gallery)[:, :k]):
        expected = sorted(listed, key=lambda video: -whole[row, video])
        assert videos[row].tolist() == expected
        np.testing.assert_allclose(scores[row], whole[row, expected], atol=1e-5)


def test_a_shortlist_of_nothing_is_refused(gallery):
    with pytest.raises(ValueError, match="two_stage: k must be at least 1; got 0"):
        two_stage(MeanPool(), gallery.text, gallery.frames, 0)


@pytest.mark.parametrize("method", METHODS)
def test_the_curve_is_what_two_stages_find(method, gallery):
    text, frames, mask, words = gallery.embeddings()
    scores = similarity(method, text, frames, mask, words)
    curve = cost_of(method, gallery, scores)["two_stage"]
    assert [point["k"] for point in curve] == [1, 5, 10, N_VIDEO]
    assert set(SHORTLISTS) >= {1, 5, 10}
    whole = two_stage(method, text, frames, N_VIDEO, mask, words)[1].tolist()
    right = gallery.video_of_text()
    for point in curve:
        found = two_stage(method, text, frames, point["k"], mask, words)[1].tolist()
        hits = [one[0] == video for one, video in zip(found, right, strict=True)]
        assert point["R@1"] == pytest.approx(100 * np.mean(hits))
        same = [one[0] == other[0] for one, other in zip(found, whole, strict=True)]
        assert point["same_first"] == pytest.approx(100 * np.mean(same))
        ten = [
            len({*one[:10]} & {*other[:10]}) / 10 for one, other in zip(found, whole, strict=True)
        ]
        assert point["same_ten"] == pytest.approx(100 * np.mean(ten))
        assert point["ms_per_query"] > 0
    assert curve[-1]["same_first"] == curve[-1]["same_ten"] == 100


def test_sizes_are_those_of_what_the_gallery_keeps(gallery):
    scores = torch.zeros(N_TEXT, N_VIDEO)
    mean, pooled = (cost_of(method, gallery, scores) for method in (MeanPool(), XPool(DIM)))
    assert (mean["parameters"], mean["bytes_per_video"], mean["two_stage"]) == (0, 4 * DIM, [])
    # four projections and the linear branch with their biases, three layer norms
    assert pooled["parameters"] == 5 * (DIM * DIM + DIM) + 3 * 2 * DIM
    assert pooled["bytes_per_video"] == 4 * DIM * N_FRAME
    assert (mean["family"], pooled["family"]) == ("text-agnostic", "text-conditioned")
