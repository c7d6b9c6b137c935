"""Frames and captions to cached embeddings: ``data/<setting>/embeddings/<benchmark>/``.

The encoder sees each frame and each caption once, and a run with a frozen encoder then takes
seconds. All frames of the cache are embedded, so that a study of frame counts reads subsets and
encodes nothing twice.
"""

import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from xpool.blocks.words import Words
from xpool.data import transforms
from xpool.data.frame_cache import Frames
from xpool.encoders.base import Encoder
from xpool.encoders.embedding_cache import WORDS
from xpool.encoders.processes import here, joined, part_of
from xpool.encoders.text_transformer import write_text_transformer
from xpool.project.params import Section
from xpool.project.progress import progress
from xpool.project.workspace import WORK, publish, write_json

log = logging.getLogger(__name__)
Indexed = tuple[str, int, NDArray[np.int32]]
"""A video, its length in frames, and which of them are embedded."""
OTHERS = "features of other code"
"""Stands for the decoder where other code has embedded the frames."""
WORDS_AT_A_TIME = 20_000
"""Captions whose words are in memory at once, padded: 2 GB with 512 dimensions and 50 tokens."""


class EmbeddingsParams(Section):
    """``embeddings`` in ``params.yaml``."""

    batch_size: int = Field(ge=1)
    """Number of images or captions in one pass of a tower."""
    words: bool
    """Whether the words of captions are cached too, for methods that compare words with frames."""


def embed(
    encoder: Encoder,
    texts: pd.DataFrame,
    videos: Iterable[Frames],
    params: EmbeddingsParams,
    antialias: bool,
    decoder: str,
    destination: Path,
) -> None:
    """Write a cache for ``xpool.encoders.embedding_cache`` to read.

    Args:
        encoder: on its device, in eval mode.
        texts: split, video_id, caption_id and caption of each text.
        videos: the frames of each video, in the order of the cache.
        params: section ``embeddings``.
        antialias: see ``frames.antialias``.
        decoder: name and version of what decoded the frames.
        destination: folder, replaced when the cache is complete.
    """
    folder = _begun(destination)
    n_video = embed_frames(encoder, videos, params.batch_size, antialias, folder)
    _complete(encoder, texts, n_video, params, decoder, folder, destination)


def embed_beside(
    encoder: Encoder,
    texts: pd.DataFrame,
    features: Iterable[tuple[str, NDArray[np.float32]]],
    params: EmbeddingsParams,
    destination: Path,
) -> None:
    """Write a cache as :func:`embed` does, of frames that other code has embedded.

    Args:
        encoder: embeds the texts; it must be the one that made the features.
        texts: see :func:`embed`.
        features: id of each video, and its ``(frame, dim)`` embeddings.
        params: section ``embeddings``.
        destination: see :func:`embed`.
    """
    folder, index, norms = _begun(destination), list[Indexed](), list[float]()

    def arrays() -> Iterator[NDArray[np.float32]]:
        for video_id, array in features:
            index.append((video_id, len(array), np.arange(len(array), dtype=np.int32)))
            norms.append(float(np.linalg.norm(array, axis=1).mean()))
            yield array

    _save(folder / "frames.npy", arrays(), encoder.dim)
    _save_index(folder, index)
    if np.allclose(norms, 1, atol=1e-2):
        log.warning(
            "%s: all features have length 1; the paper pools embeddings as the encoder gives them, "
            "whose lengths differ",
            destination.name,
        )
    _complete(encoder, texts, len(index), params, OTHERS, folder, destination)


def _begun(destination: Path) -> Path:
    """Return an empty folder for an unfinished cache."""
    folder = WORK / "embeddings" / destination.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _complete(
    encoder: Encoder,
    texts: pd.DataFrame,
    n_video: int,
    params: EmbeddingsParams,
    decoder: str,
    folder: Path,
    destination: Path,
) -> None:
    """Embed the texts beside the frames, and put the cache in its place."""
    captions = texts["caption"].tolist()
    text = embed_texts(encoder, captions, params.batch_size)
    np.save(folder / "text.npy", text.numpy())
    unique, rows = _unique(captions)
    counts = encoder.word_counts(encoder.tokenize(unique))[rows].numpy()
    columns = ["split", "video_id", "caption_id", "caption"]
    texts[columns].assign(n_tokens=counts).to_parquet(folder / "texts.parquet")
    if params.words:
        with (folder / WORDS).open("wb") as file:
            for start in range(0, len(captions), WORDS_AT_A_TIME):
                some = captions[start : start + WORDS_AT_A_TIME]
                embed_words(encoder, some, params.batch_size).values.numpy().tofile(file)
    write_text_transformer(encoder.text_transformer(), folder / "text_transformer.safetensors")
    write_json(
        folder / "summary.json",
        {
            "texts": len(text),
            "texts_cut": count_cut(encoder, captions),
            "videos": n_video,
            "dim": encoder.dim,
            "logit_scale": float(encoder.logit_scale.detach()),
            "decoder": decoder,
        },
    )
    publish(folder, destination)
    log.info("%s: %d texts, %d videos embedded", destination, len(text), n_video)


def embed_frames(
    encoder: Encoder, videos: Iterable[Frames], batch_size: int, antialias: bool, folder: Path
) -> int:
    """Write ``frames.npy`` and ``videos.parquet`` of a cache; return the number of videos.

    Args:
        encoder: on its device, in eval mode.
        videos: see :func:`embed`.
        batch_size: number of images in one pass of the tower.
        antialias: see ``frames.antialias``.
        folder: folder of the unfinished cache.
    """
    index: list[Indexed] = []

    def pixels_of_each() -> Iterator[Tensor]:
        for video_id, pixels, indices, video_frames in videos:
            index.append((video_id, video_frames, np.asarray(indices, np.int32)))
            yield transforms.evaluation(torch.tensor(pixels), encoder.size_px, antialias)

    batches = encoded_images(encoder, pixels_of_each(), batch_size)
    _save(folder / "frames.npy", (images.numpy() for images in batches), encoder.dim)
    _save_index(folder, index)
    return len(index)


def _save_index(folder: Path, index: Sequence[Indexed]) -> None:
    """Write which rows of ``frames.npy`` are whose."""
    table = pd.DataFrame(index, columns=["video_id", "video_frames", "indices"])
    sizes = table["indices"].map(len).to_numpy(np.int64)
    table.insert(1, "start", sizes.cumsum() - sizes)
    table.to_parquet(folder / "videos.parquet")


def _save(path: Path, batches: Iterable[NDArray[np.float32]], dim: int) -> None:
    """Write ``(row, dim)`` batches as one array, as they come: all may be more than memory holds.

    NumPy leaves room in the header for the number of rows to grow.
    """

    def write_header(rows: int) -> None:
        about = {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)}
        np.lib.format.write_array_header_1_0(file, about)

    rows = 0
    with path.open("wb") as file:
        write_header(rows)
        for batch in batches:
            batch.tofile(file)
            rows += len(batch)
        file.seek(0)
        write_header(rows)


def warn_of_small_frames(encoder: Encoder, short_side_px: int) -> None:
    """Say so if stored frames are smaller than the encoder's input, which blurs every image."""
    if short_side_px < encoder.size_px:
        log.warning(
            "frames are stored at %d pixels and enlarged to the encoder's %d: raise "
            "frames.short_side_px in params.yaml to %d",
            short_side_px,
            encoder.size_px,
            encoder.size_px,
        )


def count_cut(encoder: Encoder, captions: Sequence[str]) -> int:
    """Return how many captions are longer than the encoder's context, and warn if any is."""
    context = encoder.tokenize([""]).shape[1]
    # a token stands for a byte or more, and two tokens mark the start and the end
    long = [caption for caption in captions if len(caption.encode()) + 2 > context]
    unique = list(dict.fromkeys(long))
    counts = dict(zip(unique, encoder.token_counts(unique), strict=True))
    cut = [caption for caption in long if counts[caption] > context]
    if cut:
        log.warning(
            "%d of %d captions are longer than the encoder's %d tokens and are cut, e.g. %.60r",
            len(cut),
            len(captions),
            context,
            cut[0],
        )
    return len(cut)


@torch.inference_mode()
def embed_texts(encoder: Encoder, captions: Sequence[str], batch_size: int) -> Tensor:
    """Return ``(text, dim)`` float32 raw embeddings; equal captions are encoded once.

    Each process encodes its part, and all get all.
    """
    device = encoder.logit_scale.device
    unique, rows = _unique(captions)
    mine = [unique[row] for row in part_of(len(unique), *here())]
    # one block: small results kept between large intermediate ones would scatter the memory
    encoded = torch.empty(len(mine), encoder.dim, device=device)
    for start in progress(range(0, len(mine), batch_size), "texts", leave=False):
        some = slice(start, start + batch_size)
        encoded[some] = encoder.encode_text(encoder.tokenize(mine[some]).to(device))
    everything = joined(encoded, len(unique))
    return everything.cpu()[rows]


def _unique(captions: Sequence[str]) -> tuple[list[str], Tensor]:
    """Return the captions once each, short ones first, and ``(text,)`` the row of each among them.

    Captions of one length are encoded together.
    """
    unique = sorted(set(captions), key=lambda caption: (len(caption), caption))
    number = {caption: row for row, caption in enumerate(unique)}
    return unique, torch.tensor([number[caption] for caption in captions], dtype=torch.int64)


@torch.inference_mode()
def embed_words(encoder: Encoder, captions: Sequence[str], batch_size: int) -> Words:
    """Return the words of each caption, float32, on the CPU; each process encodes its part."""
    device = encoder.logit_scale.device
    unique, rows = _unique(captions)
    tokens = encoder.tokenize(unique)
    counts = encoder.word_counts(tokens)
    mine = part_of(len(unique), *here())
    longest, encoded = int(counts.max()), []
    for start in range(0, len(mine), batch_size):
        some = tokens[mine[start : start + batch_size]].to(device)
        encoded.append(encoder.encode_words(some)[:, :longest].float())
    everything = joined(torch.cat(encoded), len(unique)).cpu()
    exists = torch.arange(longest) < counts[:, None]
    return Words.of(everything[exists], counts)[rows].alone()


def embed_images(encoder: Encoder, videos: Iterator[Tensor], batch_size: int) -> Tensor:
    """Return what :func:`encoded_images` yields, ``(frame of all videos in order, dim)``."""
    return torch.cat(list(encoded_images(encoder, videos, batch_size)))


def encoded_images(encoder: Encoder, videos: Iterator[Tensor], batch_size: int) -> Iterator[Tensor]:
    """Encode ``(frame, 3, size, size)`` pixels of many videos in full batches.

    Yields:
        ``(batch, dim)`` float32 raw embeddings on the CPU, the frames of all videos in order.
    """
    for pixels in _batches(videos, batch_size):
        with torch.inference_mode():
            images = encoder.normalise(pixels.to(encoder.logit_scale.device))
            embedded = encoder.encode_image(images).float().cpu()
        yield embedded


def _batches(videos: Iterator[Tensor], size: int) -> Iterator[Tensor]:
    """Yield the frames of all videos, ``size`` at a time; the last batch may be smaller."""
    waiting: list[Tensor] = []
    for pixels in videos:
        waiting.append(pixels)
        if sum(map(len, waiting)) >= size:
            frames = torch.cat(waiting)
            full = len(frames) - len(frames) % size
            yield from frames[:full].split(size)
            waiting = [frames[full:]]
    if sum(map(len, waiting)):
        yield torch.cat(waiting)
