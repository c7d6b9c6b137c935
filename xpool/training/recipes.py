"""The params of a training: the budget that all methods share, and each method's recipe."""

import inspect
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import Field, ValidationInfo, field_validator

from xpool.pooling import Method
from xpool.project.errors import InputError
from xpool.project.params import PARAMS_FILE, Section, read
from xpool.project.plugins import arguments, check_arguments, load


class TrainParams(Section):
    """``train`` in ``params.yaml``: the same for every method, so that budgets are equal."""

    reads: Literal["embeddings", "frames"]
    """``frames``: the whole encoder is fine-tuned, as in the paper. ``embeddings``: its towers are
    frozen and only their two final projections learn, from cached embeddings."""
    frames: int = Field(ge=1)
    """Number of frames of a video that a method sees."""
    epochs: int = Field(ge=0)
    """0: nothing is trained, and the encoder is scored as it is (zero-shot)."""
    batch_size: int = Field(ge=2)
    micro_batch: int | None = Field(ge=1)
    """Number of texts, and of videos, that the encoder takes at a time. It keeps only their
    embeddings for the loss over the whole batch, and encodes them again for their gradients. This
    saves memory for a third more arithmetic, and changes the result by rounding only. None: the
    encoder takes the whole batch at once."""
    warmup: float = Field(ge=0, lt=1)
    """Share of the steps in which the learning rates rise."""
    weight_decay: float = Field(ge=0)
    """Applies to every parameter, as in the official code."""
    max_grad_norm: float = Field(gt=0)
    max_logit_scale: float = Field(gt=0)
    """A learned contrastive scale is clamped to this after each step (CLIP: 100)."""
    contrastive_temperature: Literal["encoder"] | float
    """Initial divisor of the cosines in the contrastive loss; its inverse is the contrastive scale.
    ``encoder``: the encoder's own value (CLIP: 0.01)."""
    learn_contrastive_temperature: bool
    """Whether training changes the temperature, as in CLIP and in the official code."""
    evaluations_per_epoch: int = Field(ge=1)
    precision: Literal["auto", "fp32", "bf16"]
    """``auto``: bf16 autocast on a GPU that computes in it, fp32 elsewhere."""
    evaluation_precision: Literal["fp32", "bf16"]
    """Precision of the encoder in evaluations, where frames are read; scores are float32."""
    deterministic: bool
    """Whether a GPU gives the same bytes each time, by slower kernels. A CPU does in any case, with
    the same number of threads."""
    compile: bool
    """Whether ``torch.compile`` fuses the operations between the encoder's matrix products, where
    frames are read. Changes results by rounding only; needs a C compiler and a minute to start."""
    workers: int = Field(ge=0)
    """Number of processes that prepare batches of frames; changes the speed, not the result."""

    @field_validator("contrastive_temperature", mode="before")
    @classmethod
    def _within_the_clamp(cls, value: object, info: ValidationInfo) -> object:
        """Refuse a wrong temperature with one message; pydantic's union would give two."""
        if value == "encoder":
            return value
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and 0 < cast(float, value) < math.inf):
            raise ValueError("must be encoder, or a number above 0 (with a point, as in 0.01)")
        largest = info.data.get("max_logit_scale")  # absent if it is invalid itself
        if largest is not None and 1 / cast(float, value) > largest:
            raise ValueError(
                f"its inverse must be at most max_logit_scale ({largest:g}); raise the one or the "
                "other"
            )
        return value


class Recipe(Section):
    """``recipes.<method>.<benchmark>`` in ``params.yaml``."""

    lr_encoder: float = Field(ge=0)
    lr_pooling: float = Field(ge=0)
    pooling: dict[str, Any]
    """Arguments of the method's constructor."""


def short_name(method: str) -> str:
    """Return a method's name in params, paths and tables.

    It is that of its file, or the import path of a method in another package.

    Example:
        >>> short_name("xpool.xpool"), short_name("baselines.mean_pool"), short_name("their.pool")
        ('xpool', 'mean_pool', 'their.pool')
    """
    return "xpool" if method == "xpool.xpool" else method.removeprefix("baselines.")


def import_path(name: str) -> str:
    """Return the import path of a method by its name; the inverse of :func:`short_name`."""
    if name == "xpool":
        return "xpool.xpool"
    return name if "." in name else f"baselines.{name}"


def recipe_for(method: str, benchmark: str, path: Path = PARAMS_FILE) -> Recipe:
    """Read a cell's recipe and check the pooling's arguments against its constructor.

    Raises:
        InputError: the recipe is missing; or an argument is unknown, missing, or of a wrong type.
    """
    name = short_name(method)
    recipe = read(f"recipes.{name}.{benchmark}", Recipe, path)
    return checked(recipe, method, f"recipes.{name}.{benchmark}", path)


def checked(recipe: Recipe, method: str, key: str, path: Path = PARAMS_FILE) -> Recipe:
    """Return the recipe after checking its ``pooling`` against the method's constructor.

    Raises:
        InputError: see :func:`recipe_for`; the message names ``path`` and ``key``.
    """
    check_arguments(method, "METHOD", recipe.pooling, f"{key}.pooling", path)
    return recipe


def build_pooling(method: str, benchmark: str, recipe: Recipe, dim: int) -> Method:
    """Construct a method for embeddings of ``dim`` dimensions.

    Raises:
        InputError: the file defines no method, or the recipe's arguments do not fit.
    """
    kind = load(method, "METHOD")
    if not (isinstance(kind, type) and issubclass(kind, Method) and hasattr(kind, "similarity")):
        raise InputError(
            f"{method}: METHOD must be a subclass of xpool.pooling.Pooling with pool(text, frames, "
            "mask), or of xpool.pooling.Method with similarity(text, frames, mask)"
        )
    given = dict(recipe.pooling)
    if "dim" in inspect.signature(kind).parameters:
        given["dim"] = dim
    try:
        pooling: Method = kind(**given)
    except (TypeError, ValueError) as error:
        key = f"recipes.{short_name(method)}.{benchmark}.pooling"
        raise InputError(f"{PARAMS_FILE}: {key}: {error}") from error
    return pooling


def wants_words(method: str) -> bool:
    """Return whether a method compares the words of a text too; ``method`` is its import path."""
    return bool(load(method, "METHOD").wants_words)


def frames_refused(
    method: str, benchmark: str, recipe: Recipe, counts: Iterable[int]
) -> str | None:
    """Return why a method cannot take videos of one of these numbers of frames, or None.

    A method says by its constructor what it takes: at most ``positions``, or exactly ``frames``.
    """
    known, name = arguments(load(method, "METHOD")), short_name(method)
    key = f"recipes.{name}.{benchmark}.pooling"
    limits = {
        limit: recipe.pooling.get(limit, known[limit].default)
        for limit in ("positions", "frames")
        if limit in known
    }
    for count in sorted(counts, reverse=True):
        if count > limits.get("positions", math.inf):
            return (
                f"{count} frames are more than {name} has positions for "
                f"({limits['positions']}: {key}.positions)"
            )
        if count != limits.get("frames", count):
            return (
                f"{count} frames, but {name} is made for one number of frames "
                f"({limits['frames']}: {key}.frames)"
            )
    return None
