"""Measure what JPEG costs: bytes, pixels, and R@1 in the mini world (``frames.storage``).

Reads a mini pipeline that has run to ``frames``, and any folder of videos for pixels of real ones.
R@1 is of mean pooling with the mini encoder as pretrained, on the test split: nothing is trained,
so that only the pixels differ.

Run: ``python -m performance.storage /folder/of/videos``
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from xpool.project.command import run_alone

COUNT, SHORT_SIDE_PX = 12, 224
CHOSEN = (95, 0)
LEVELS = (CHOSEN, (90, 0), (95, 2), (75, 2))
"""Quality and chroma subsampling (0: none, 2: 4:2:0); the first one is the pipeline's."""


class Loss(NamedTuple):
    """The cost of a level over some frames."""

    smaller: float
    """Bytes of the pixels for each byte of JPEG."""
    psnr_db: float
    """Median over the frames."""
    least_psnr_db: float
    largest: int
    """Largest difference of a channel, of 255."""


def roundtrip(frame: NDArray[np.uint8], quality: int, subsampling: int) -> tuple[Any, int]:
    """Return a frame as JPEG gives it back, and the bytes it took."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(file)), file.tell()


def loss(frames: Sequence[NDArray[np.uint8]], level: tuple[int, int]) -> Loss:
    """Measure a level on frames of any sizes."""
    taken, largest, psnr = 0, 0, []
    for frame in frames:
        near, size = roundtrip(frame, *level)
        error = frame.astype(float) - near
        psnr.append(10 * np.log10(255**2 / max((error**2).mean(), 1e-9)))
        largest = max(largest, int(np.abs(error).max()))
        taken += size
    whole = sum(frame.nbytes for frame in frames)
    return Loss(whole / taken, float(np.median(psnr)), min(psnr), largest)


def real_frames(folder: Path) -> list[NDArray[np.uint8]]:
    """Return the sampled frames of all videos below a folder that can be read."""
    from xpool.data.sampling import frame_indices
    from xpool.data.videos.decode import decode
    from xpool.data.videos.video_file import DecodeError

    def chosen(length: int) -> NDArray[np.int64]:
        return frame_indices(length, COUNT, "uniform", 0, "")

    frames: list[NDArray[np.uint8]] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            frames += list(decode(path, chosen, SHORT_SIDE_PX, True)[0])
        except DecodeError:
            print(f"left out: {path.name}")
    return frames


def mini_recall(benchmark: str, level: tuple[int, int] | None) -> NDArray[np.bool_]:
    """Return of each test caption whether its video comes first, by mean pooling of 12 frames."""
    import torch

    from xpool.data import transforms
    from xpool.data.frame_cache import FrameCache
    from xpool.data.manifest import read_manifest
    from xpool.data.sampling import frame_indices
    from xpool.encoders.base import open_encoder
    from xpool.encoders.embed import embed_images, embed_texts
    from xpool.project import paths

    encoder = open_encoder(paths.encoder("mini")).eval()
    cache = FrameCache(paths.frames("mini", benchmark))
    texts = read_manifest(paths.manifest("mini", benchmark))
    texts = texts[texts["split"] == "test"]
    videos, counts = list(dict.fromkeys(texts["video_id"])), []

    def pixels() -> Iterator[torch.Tensor]:
        for video in videos:
            stored, indices, length = cache.stored(video)
            wanted = frame_indices(length, COUNT, "uniform", 0, video)
            frames = stored[np.searchsorted(indices, wanted)]
            if level:
                frames = np.stack([roundtrip(frame, *level)[0] for frame in frames])
            counts.append(len(frames))
            yield transforms.evaluation(torch.tensor(frames), encoder.size_px, True)

    frames = torch.nn.functional.normalize(embed_images(encoder, pixels(), 256), dim=-1)
    pooled = torch.stack([part.mean(dim=0) for part in frames.split(counts)])
    text = embed_texts(encoder, texts["caption"].tolist(), 256)
    first = (text @ torch.nn.functional.normalize(pooled, dim=-1).T).argmax(dim=1).numpy()
    return np.asarray(np.array(videos)[first] == texts["video_id"].to_numpy())


def main(
    videos: Annotated[Path, typer.Argument(help="A folder of real videos.")],
) -> None:
    """Print what each level of JPEG costs.

    Example: python -m performance.storage clips
    """
    frames = real_frames(videos)
    print(f"{len(frames)} frames of real videos, short side {SHORT_SIDE_PX} px:\n")
    print("| quality | chroma | smaller | PSNR, median | PSNR, least | largest error |")
    print("|--:|---|--:|--:|--:|--:|")
    for level in LEVELS:
        found = loss(frames, level)
        chroma = "4:2:0" if level[1] else "4:4:4"
        print(
            f"| {level[0]} | {chroma} | {found.smaller:.1f} × | {found.psnr_db:.1f} dB "
            f"| {found.least_psnr_db:.1f} dB | {found.largest} |"
        )
    print("\n| mini | queries | R@1, pixels | " + " | ".join(f"{q}, {s}" for q, s in LEVELS) + " |")
    print("|---|--:|--:|" + "--:|" * len(LEVELS))
    for benchmark in ("msrvtt", "msvd", "lsmdc"):
        raw = mini_recall(benchmark, None)
        cells = []
        for level in LEVELS:
            near = mini_recall(benchmark, level)
            cells.append(f"{100 * near.mean():.1f} (+{(near & ~raw).sum()} −{(raw & ~near).sum()})")
        print(f"| {benchmark} | {len(raw)} | {100 * raw.mean():.1f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    run_alone(main)
