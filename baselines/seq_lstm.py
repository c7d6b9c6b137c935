"""An LSTM over the frames: CLIP4Clip's seqLSTM, a trained text-agnostic control."""

import torch
from torch import Tensor, nn

from xpool.pooling import Pooling, masked_mean, unit, without_padding


class SeqLstm(Pooling):
    """LSTM over the frames of each video, then their mean; the same for every text.

    ``h = LSTM(c_1 … c_F) + c``, ``z = mean_f h_f / |h_f|``: one layer, forwards in time, as wide as
    the embeddings, with torch's random initialisation.

    Source: ArrowLuo/CLIP4Clip@508ffa3 modules/modeling.py:241, 360-369 and 389-394 (seqLSTM),
    arXiv 2104.08860, section 3.3. It packs the frames of each video by their number, so that
    padding must come last; here the existing frames are moved to the front, wherever they are.
    """

    family = "text-agnostic"

    def __init__(self, dim: int) -> None:
        """Make the LSTM, its weights drawn from torch's global generator.

        Args:
            dim: width of the embeddings.

        Raises:
            ValueError: ``dim`` is below 1.
        """
        super().__init__()
        if dim < 1:
            raise ValueError(f"SeqLstm: dim must be at least 1; got {dim}")
        self.lstm = nn.LSTM(dim, dim, batch_first=True)

    def pool(self, text: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """Pool; returns ``(1, video, dim)``."""
        order = mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
        frames = without_padding(frames, mask).take_along_dim(order[:, :, None], dim=1)
        mask = mask.take_along_dim(order, dim=1)
        hidden, _ = self.lstm(frames)  # no frame sees the padding, which comes after it
        return masked_mean(unit(hidden + frames), mask)[None]


METHOD = SeqLstm
