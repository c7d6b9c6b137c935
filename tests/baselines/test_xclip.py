"""X-CLIP's four grains against slow loops (oracle), and what they are at the start (property)."""

import numpy as np
import pytest
import torch

from baselines.xclip import FourGrains
from xpool.blocks.words import Words
from xpool.project.errors import InputError
from xpool.similarity import similarity

DIM, MOST_FRAMES, MOST_WORDS = 8, 7, 9


def inputs(seed, n_text=5, n_video=4):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 6, n_text)
    mask = np.arange(6) < rng.integers(1, 7, n_video)[:, None]
    text = rng.standard_normal((n_text, DIM))
    words = [rng.standard_normal((count, DIM)) for count in counts]
    frames = rng.standard_normal((n_video, 6, DIM))
    packed = Words.of(torch.tensor(np.concatenate(words)), torch.tensor(counts))
    given = torch.tensor(text), torch.tensor(frames), torch.tensor(mask), packed
    return text, words, [f[m] for f, m in zip(frames, mask, strict=True)], given


def unit(vector):
    return vector / np.linalg.norm(vector)


def gathered(scores, weight, temperature):
    """``sum_ij softmax(x / τ)_i W_ij x_j``, term by term."""
    shares = np.exp((np.array(scores) - max(scores)) / temperature)
    shares /= shares.sum()
    n = range(len(scores))
    return sum(shares[i] * weight[i, j] * scores[j] for i in n for j in n)


def score(text, words, frames, method):
    w = {name: value.detach().numpy() for name, value in method.named_parameters()}
    tau = method.temperature
    text, words, frames = unit(text), [unit(x) for x in words], [unit(x) for x in frames]
    video = unit(sum(frames) / len(frames))
    whole = text @ w["video_sentence"] @ video
    of_words = gathered([x @ video for x in words], w["video_word"], tau)
    of_frames = gathered([text @ x for x in frames], w["sentence_frame"], tau)
    table = [[x @ w["frame_word"] @ y for y in frames] for x in words]
    by_word = [gathered(row, w["over_frames"], tau) for row in table]
    columns = zip(*table, strict=True)
    by_frame = [gathered(list(column), w["over_words"], tau) for column in columns]
    fine = gathered(by_frame, w["then_over_frames"], tau)
    fine += gathered(by_word, w["then_over_words"], tau)
    return (whole + of_words + of_frames + fine / 2) / 4


@pytest.mark.parametrize("temperature", [0.01, 0.5])
@pytest.mark.parametrize("trained", [False, True])
def test_equals_slow_loops(temperature, trained):
    method = FourGrains(DIM, MOST_FRAMES, MOST_WORDS, temperature).double().eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter += trained * 0.3 * torch.randn_like(parameter)
    text, words, frames, given = inputs(1)
    expected = [[score(t, w, f, method) for f in frames] for t, w in zip(text, words, strict=True)]
    np.testing.assert_allclose(similarity(method, *given).numpy(), expected, atol=1e-12)


def test_one_word_and_one_frame_at_the_start():
    """Nothing is left to gather: the mean of the four cosines, two of them of the frame."""
    text, words, frames = torch.randn(3, 1, 1, DIM, dtype=torch.float64)
    ones = torch.ones(1, 1, dtype=torch.bool)
    actual = FourGrains(DIM).double().similarity(text[0], frames, ones, words, ones)
    a, b = (torch.nn.functional.cosine_similarity(x, frames[0]) for x in (text[0], words[0]))
    torch.testing.assert_close(actual[0], (2 * a + 2 * b) / 4)


def test_all_starts_as_the_identity():
    for parameter in FourGrains(DIM).parameters():
        assert torch.equal(parameter, torch.eye(len(parameter)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"positions": 5}, r"xclip.<benchmark>.pooling.positions: 5, but there are 6; set it"),
        (
            {"words": 2},
            r"xclip.<benchmark>.pooling.words: 2, but there are 5; set it to at least 5",
        ),
    ],
)
def test_too_many_frames_or_words_name_the_key(arguments, message):
    _, words, _, given = inputs(1)
    assert max(map(len, words)) == 5
    with pytest.raises(InputError, match=message):
        similarity(FourGrains(DIM, **arguments).double(), *given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"positions": 0}, "got positions=0"),
        ({"words": 0}, "words=0"),
        ({"temperature": 0.0}, "temperature must be above 0; got 0.0"),
        ({"temperature": float("nan")}, "got nan"),
    ],
)
def test_constructor_impossible_value_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        FourGrains(DIM, **arguments)
