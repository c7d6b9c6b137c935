"""Measure the cost of a trained method in milliseconds for each gallery video."""

from functools import cache

import torch

from xpool.ablation.lab import Lab, Trained
from xpool.encoders.base import open_encoder
from xpool.encoders.embed import embed_images
from xpool.project import paths
from xpool.project.params import setting
from xpool.similarity import similarity
from xpool.training.cost import least_time_s


def gallery_cost_ms(trained: Trained, lab: Lab) -> float:
    """Return the milliseconds to encode a gallery video's frames and score it against all texts.

    On a CPU this is the time in which this process computed, which other workers of the study do
    not prolong as they do the time on the clock. On a GPU it is the time on the clock, so workers
    that share a GPU add to it.

    The image tower is timed once a process, on noise: its time does not depend on the pixels.
    """
    gallery, method = trained.gallery, trained.pooling
    frame_s = _encoding_s(setting(), str(lab.accelerator.device))

    def score() -> None:
        with torch.inference_mode():
            similarity(method, *gallery.embeddings())

    scoring_s = least_time_s(score, lab.accelerator.device) / len(gallery.video_ids)
    return 1000 * (frame_s * gallery.frames.shape[1] + scoring_s)


@cache
def _encoding_s(here: str, device: str) -> float:
    """Seconds that the image tower takes for one frame, in batches of 64."""
    encoder = open_encoder(paths.encoder(here)).to(device).eval()
    size = encoder.size_px
    noise = torch.randint(0, 256, (64, 3, size, size), dtype=torch.uint8)
    return least_time_s(lambda: embed_images(encoder, iter([noise]), 64), torch.device(device)) / 64
