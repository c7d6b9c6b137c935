"""The protocol behind a benchmark's figures, read from ``params.yaml`` and put into words.

The captions of the tables state all of it. The printed names of methods and metrics are here too.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from xpool.data.benchmark import load
from xpool.data.videos.features import LENGTHS
from xpool.metrics import REPORTED
from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.made import made
from xpool.project.params import read, setting
from xpool.statistics.ranks import Scope, scope, scored

XPOOL = "xpool"
METHODS = {
    "mean_pool": "Mean pooling",
    "max_pool": "Max pooling",
    "attention_token": "Attention token",
    "seq_lstm": "seqLSTM",
    "self_attention": "Self-attention",
    "top_k": "Top-k",
    "attention": "Attention pooling",
    "tmass": "T-MASS",
    "gare": "GARE",
    "token_max": "Token-wise (TI)",
    "wti": "WTI",
    "uatvr": "UATVR",
    "xclip": "X-CLIP",
    "tight": "Cross-transformer",
    "xpool": "X-Pool",
}
"""Printed names, in the order of the rows: text-agnostic first, X-Pool last."""
DIRECTIONS = {"t2v": "Text → video", "v2t": "Video → text"}
LOWER_IS_BETTER = ("MdR", "MnR")
METRICS = {name: f"{name} {'↓' if name in LOWER_IS_BETTER else '↑'}" for name in REPORTED}
"""The paper's columns; the arrow points to better."""
SYNTHETIC = "SYNTHETIC: generated videos"
"""Mark of each figure that shows generated videos."""

_SELECTION = {
    "val": "Checkpoints selected on the validation split.",
    "last": "Checkpoints of the last step, selected on nothing.",
    "test_window": "Checkpoints SELECTED ON TEST, by the official code's rule: the best "
    "five-evaluation mean of R@1.",
}
_ZERO_SHOT = "Zero-shot: nothing was trained, and no checkpoint was selected."
_READS = {
    "embeddings": "towers frozen, only their final projections trained",
    "frames": "the whole encoder fine-tuned",
}
PUBLISHED = {
    "a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f": "ViT-B/32",
    "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af": "ViT-B/32",
}
"""Architecture of the weights that the published figures start from, by the SHA-256 of their files:
``pytorch_model.bin`` of openai/clip-vit-base-patch32, and OpenAI's own ``ViT-B-32.pt``."""
_SHORT_VIDEOS = {
    "mask": "missing frames of short videos masked",
    "repeat_last": "the last frame of short videos repeated",
}
_OPTIONS = {
    "training_videos": "{} training list",
    "val_videos": "{} training videos held out for validation",
    "test_clips": "{}-clip test protocol",
    "allowed_missing": "a share of {} of each split's videos allowed to be missing",
    "splits": "nothing but the splits {} read",
    "videos": "videos from the folder {}",
    "frames_fps": "frames extracted by other code at {} a second in place of videos",
    "features": "FEATURES OF OTHER CODE ({}) in place of videos",
    "captions": "captions of {}",
}
"""Options of ``manifest.<benchmark>`` in words; an option not listed here is printed by name."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A benchmark, and how its runs were trained, selected and tested."""

    setting: str
    benchmark: str
    title: str
    options: dict[str, Any]
    """Params ``manifest.<benchmark>``."""
    methods: tuple[str, ...]
    """Short names, in the order of the rows."""
    seeds: tuple[int, ...]
    selection: str
    backbone: str
    """Encoder by its architecture and weights, and whether its towers were frozen; the name that
    papers use, e.g. ViT-B/32, alone for the weights that published figures start from."""
    training: str
    """Encoder, which part of it was trained, and frames, in words."""
    zero_shot: bool = False
    """Whether the runs are of no epoch: the encoder as it was released."""
    lacking: str = ""
    """The part of what params.yaml lists that is not compared, since runs are missing, in words."""

    def runs(self) -> Iterator[tuple[str, int]]:
        """Yield method and seed of each run."""
        return itertools.product(self.methods, self.seeds)

    @property
    def synthetic(self) -> bool:
        """Whether the videos were generated."""
        return self.setting == "mini"

    @property
    def mark(self) -> str:
        """Mark of the benchmark's figures, empty for real videos."""
        return SYNTHETIC if self.synthetic else ""

    def heading(self, title: str) -> str:
        """Return the first words of a caption: the title, and a mark if the data are synthetic."""
        if not self.synthetic:
            return f"{title}."
        return (
            f"{title}, {SYNTHETIC} in the official layout, not the benchmark's own; no evidence "
            "about it."
        )

    def options_in_words(self) -> list[str]:
        """Return the protocol options in force, e.g. ``9k training list``."""
        return [
            _OPTIONS.get(name, f"{name} {{}}").format(value)
            for name, value in self.options.items()
            if name != "title" and not (name == "allowed_missing" and value == 0)
        ]

    def spread(self) -> str:
        """Return what the figures in a cell of a table are, in words."""
        if len(self.seeds) == 1:
            return (
                f"one run, seed {self.seeds[0]}, and its 95 % interval over the test videos, which "
                "says nothing about other seeds"
            )
        seeds = ", ".join(map(str, self.seeds))
        return f"mean over seeds {seeds} and its 95 % interval over seeds and test videos"

    def how(self) -> str:
        """Return how the checkpoints were selected and trained, in words."""
        rule = _SELECTION.get(self.selection, f"Checkpoints selected by {self.selection}.")
        rule = _ZERO_SHOT if self.zero_shot else rule
        return f"{rule} {self.training}"


def method_name(method: str) -> str:
    """Return a method's printed name, or its own name made readable; an import path stays one.

    Example:
        >>> method_name("xpool"), method_name("midrange_pool"), method_name("their.pool")
        ('X-Pool', 'Midrange pool', 'their.pool')
    """
    own = method if "." in method else method.replace("_", " ").capitalize()
    return METHODS.get(method, own)


def in_order(methods: Iterable[str]) -> tuple[str, ...]:
    """Return methods in the order of the rows; a method without a printed name precedes X-Pool.

    Example:
        >>> in_order(["xpool", "midrange_pool", "mean_pool"])
        ('mean_pool', 'midrange_pool', 'xpool')
    """
    index = {method: number for number, method in enumerate(METHODS)}
    unknown = index["xpool"] - 0.5
    return tuple(sorted(methods, key=lambda method: (index.get(method, unknown), method)))


def methods_of(protocols: Iterable[Protocol]) -> tuple[str, ...]:
    """Return all methods that are compared on some benchmark, in the order of the rows."""
    return in_order({method for protocol in protocols for method in protocol.methods})


def narrowed(protocols: Iterable[Protocol], there: Scope) -> list[Protocol]:
    """Return the protocols of the runs that are there; each says what its benchmark lacks.

    Args:
        protocols: from :func:`read_protocols`.
        there: what is compared, a part of what they list.
    """
    protocols = list(protocols)
    lost = [f"any run on {one.title}" for one in protocols if one.benchmark not in there]
    found = []
    for one in protocols:
        if one.benchmark not in there:
            continue
        methods, seeds = there[one.benchmark]
        absent = [method_name(method) for method in one.methods if method not in methods]
        absent += [f"seed {seed} of every method" for seed in one.seeds if seed not in seeds]
        lacking = f" NOT THERE: {', '.join([*absent, *lost])}." if absent or lost else ""
        found.append(replace(one, methods=in_order(methods), seeds=tuple(seeds), lacking=lacking))
    return found


def with_xpool(protocols: Sequence[Protocol]) -> list[Protocol]:
    """Return the protocols of the runs that have been scored, where X-Pool is among them.

    Args:
        protocols: of all that params.yaml lists.

    Raises:
        InputError: X-Pool has not been scored, or features stand for the videos of all benchmarks.
    """
    here = protocols[0].setting
    listed = [(p.benchmark, method, seed) for p in protocols for method, seed in p.runs()]
    found = narrowed(protocols, scope(scored(here, listed)))
    found = [protocol for protocol in found if XPOOL in protocol.methods]
    pictured = [p for p in found if not (paths.frames(here, p.benchmark) / LENGTHS).is_file()]
    if found and not pictured:
        raise InputError(
            f"{paths.frames(here, found[0].benchmark)}: no frames to show, because features of "
            "other code stand for the videos; leave this page out"
        )
    found = pictured
    if not found:
        made(paths.similarity(here, XPOOL, protocols[0].benchmark, protocols[0].seeds[0]))
    return found


def backbone(description: Mapping[str, Any]) -> str:
    """Return the name of a described encoder: the architecture alone where its weights are known.

    Neither depends on what the model is called: see :data:`PUBLISHED`.
    """
    name, weights = description.get("architecture", "unknown"), description.get("weights", [])
    if name in {PUBLISHED.get(digest) for digest in weights}:
        return str(name)
    return f"{name} with the weights {description['model']} ({description['pretrained']})"


def _enlarged(encoder: Mapping[str, Any]) -> str:
    """Return in words that frames are stored smaller than the encoder's input, or nothing."""
    stored_px = read("frames.short_side_px", int)
    if stored_px >= encoder.get("size_px", 0):
        return ""
    return f", STORED AT {stored_px} px AND ENLARGED to the encoder's {encoder['size_px']}"


def read_protocols() -> list[Protocol]:
    """Return the protocol of each benchmark that ``params.yaml`` lists, in the same order."""
    reads, short = read("train.reads", str), read("frames.short_videos", str)
    model = read("encoder.model", str)
    frozen = ", towers frozen" if reads == "embeddings" else ""
    zero_shot = read("train.epochs", int) == 0
    frozen = ", not trained" if zero_shot else frozen
    trained = "as it was released" if zero_shot else _READS.get(reads, reads)
    description = paths.encoder(setting()) / "encoder.json"
    encoder = {"model": model, "pretrained": read("encoder.pretrained", str)}
    if description.is_file():
        encoder = json.loads(description.read_text(encoding="utf-8"))
    training = (
        f"Encoder {model} ({read('encoder.pretrained', str)}): "
        f"{trained}; {read('train.frames', int)} frames a video "
        f"({read('frames.sampling', str)} sampling, {_SHORT_VIDEOS.get(short, short)})"
        f"{_enlarged(encoder)}."
    )
    mini = "Mini " if setting() == "mini" else ""
    return [
        Protocol(
            setting=setting(),
            benchmark=name,
            title=f"{mini}{load(name).title}",
            options=read(f"manifest.{name}", dict[str, Any]),
            methods=in_order(["xpool", *read("baselines", list[str])]),
            seeds=tuple(sorted(read("seeds", list[int]))),
            selection=read("selection", str),
            backbone=f"{backbone(encoder)}{frozen}",
            training=training,
            zero_shot=zero_shot,
        )
        for name in read("benchmarks", list[str])
    ]
