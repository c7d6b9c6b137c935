"""The block that methods build on, against X-Pool, which shares no code with it."""

import pytest
import torch

from xpool.blocks.cross_attention import CrossAttention
from xpool.xpool import XPool

DIM = 8


def inputs():
    generator = torch.Generator().manual_seed(0)
    text, frames = (
        3 * torch.randn(*shape, DIM, generator=generator, dtype=torch.float64)
        for shape in ((5,), (4, 6))
    )
    return text, frames, torch.arange(6) < torch.tensor([[6], [1], [4], [2]])


def xpool():
    torch.manual_seed(0)
    made = XPool(DIM).double().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return made


def block(weights):
    made = CrossAttention(DIM, 0.3).double().eval()
    made.load_state_dict(
        {name.removeprefix("cross_attn."): value for name, value in weights.items()}
    )
    return made


def test_the_text_as_query_gives_what_xpool_pools():
    text, frames, mask = inputs()
    source = xpool()
    actual = block(source.state_dict())(text[:, None], frames, mask)
    torch.testing.assert_close(actual, source.pool(text, frames, mask), atol=1e-12, rtol=0)


def test_a_query_of_each_pair_gives_what_xpool_pools_for_it():
    text, frames, mask = inputs()
    source = xpool()
    query = text[:, None] - frames[:, 0]  # (text, video, dim)
    actual = block(source.state_dict())(query, frames, mask)
    for v in range(len(frames)):
        alone = source.pool(query[:, v], frames[[v]], mask[[v]])[:, 0]
        torch.testing.assert_close(actual[:, v], alone, atol=1e-12, rtol=0)


def test_starts_as_xpool_does():
    text, frames, mask = inputs()
    made = CrossAttention(DIM, 0.0).double()
    torch.testing.assert_close(
        made(text[:, None], frames, mask), XPool(DIM).double().pool(text, frames, mask)
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 0.0), "dim must be at least 1; got 0"), ((8, 1.0), "dropout must be .* below 1; got 1")],
)
def test_value_out_of_range_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        CrossAttention(*arguments)
