"""CLIP through open_clip: any of its models, with any of its tags or a local weights file.

open_clip takes seconds to import. The functions that use it import it, since the stage ``check``
imports this file.
"""

import json
import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self, cast

from torch import Tensor, nn

from xpool.encoders.activation import has_quick_gelu
from xpool.encoders.base import Encoder, EncoderParams, vit_name
from xpool.encoders.patches import multiply_patches
from xpool.encoders.tensors import save_tensors
from xpool.pooling import TextTransformer
from xpool.project.digests import refuse_lfs_pointer, sha256
from xpool.project.errors import InputError

log = logging.getLogger(__name__)

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"
OPENAI_NUMBERS = ("input_resolution", "context_length", "vocab_size")
TABLES = ("visual.positional_embedding", "positional_embedding", "token_embedding.weight")
"""Weights whose shape shows the resolution, the context and the vocabulary; checked first."""
TINY = Path(__file__).with_name("tiny.json")


class OpenClip(Encoder):
    """An open_clip model with a plain CLIP text tower."""

    def __init__(self, model: nn.Module, tokenizer: Any) -> None:
        super().__init__()
        self.model = cast(Any, model)
        multiply_patches(model)
        self._tokenizer = tokenizer
        preprocess = self.model.visual.preprocess_cfg
        size = preprocess["size"]
        self.size_px = int(size if isinstance(size, int) else size[0])
        self.mean = tuple(preprocess["mean"])
        self.std = tuple(preprocess["std"])
        self.dim = int(self.model.text_projection.shape[-1])

    @property
    def logit_scale(self) -> nn.Parameter:  # type: ignore[override]
        """The model's own parameter, so that fine-tuning continues from it."""
        return cast(nn.Parameter, self.model.logit_scale)

    @classmethod
    def problems(cls, params: EncoderParams) -> Iterable[str]:
        """Yield each reason why open_clip cannot provide such weights."""
        if (params.pretrained == "mini_world") != (params.model == "tiny"):
            yield (
                "mini_world is how the tiny model of openclip is trained, and only that; "
                f"got model {params.model}, pretrained {params.pretrained}"
            )
        if params.pretrained == "hub":
            yield "pretrained: hub is for library huggingface; name a tag or a weights file"

    @classmethod
    def weights_digests(cls, params: EncoderParams) -> Iterable[str]:
        """Yield the digest of a local file, or the one in the address of a tag of OpenAI's."""
        import open_clip

        tag = open_clip.get_pretrained_cfg(params.model, params.pretrained)
        if tag:
            yield from re.findall(r"/([0-9a-f]{64})/", tag.get("url", ""))
        elif Path(params.pretrained).is_file():
            yield sha256(Path(params.pretrained))

    def architecture(self) -> str:
        """Return the name of the image tower, if it is a plain vision transformer."""
        visual = self.model.visual
        if not all(hasattr(visual, name) for name in ("patch_size", "image_size", "transformer")):
            return "unknown"
        tower = visual.transformer
        return vit_name(tower.width, tower.layers, visual.patch_size[0], visual.image_size[0])

    @classmethod
    def width(cls, params: EncoderParams) -> int | None:
        """Return ``embed_dim`` of the model's config, which comes with open_clip."""
        library = find_spec("open_clip")  # importing it takes seconds, and `check` asks
        configs = Path(library.origin or "").parent / "model_configs" if library else Path()
        path = TINY if params.model == "tiny" else configs / f"{params.model}.json"
        if not path.is_file():
            return None
        return int(json.loads(path.read_text(encoding="utf-8"))["embed_dim"])

    @classmethod
    def prepare(cls, params: EncoderParams, folder: Path) -> None:
        """Fetch weights by tag, or read a local file; only tensors are read, never code.

        The weights of a file must have the model's own shapes: open_clip itself would stretch a
        table of positions without a word.
        """
        import open_clip

        known = open_clip.list_models()
        if params.model not in known:
            near = [name for name in known if params.model.lower()[:5] in name.lower()]
            raise InputError(
                f"params.yaml: encoder.model: open_clip has no {params.model!r}; "
                f"near it: {', '.join(near[:8]) or ', '.join(known[:8])}, ..."
            )
        tags = open_clip.list_pretrained_tags_by_model(params.model)
        path = None if params.pretrained in tags else Path(params.pretrained)
        if path is not None and not path.is_file():
            raise InputError(
                f"params.yaml: encoder.pretrained: {params.pretrained!r} is neither a file nor "
                f"a tag of {params.model}; tags: {', '.join(tags)}"
            )
        config = open_clip.get_model_config(params.model)
        if path is not None:
            refuse_lfs_pointer(path)
        quick, why = has_quick_gelu(params, path)
        try:
            # torch warns of TorchScript archives, which are refused in one line
            with without_warning(), warnings.catch_warnings(action="ignore"):
                state = None if path is None else open_clip.factory.load_state_dict(str(path))
                model = open_clip.create_model(
                    params.model,
                    pretrained=None if path else params.pretrained,
                    force_quick_gelu=quick,
                    quick_gelu=quick,  # also where the model's config has it and the weights do not
                    weights_only=True,
                )
        except Exception as error:  # of many kinds: network, archive, unpickling
            raise InputError(
                f"encoder: {params.model} with {params.pretrained!r} could not be loaded: "
                f"{' '.join(str(error).split())[:300]}; a local file must be .safetensors or a "
                "plain state dict (a TorchScript archive holds code and is refused)"
            ) from error
        if state is not None:
            load_exactly(model, state, f"encoder: {params.model} with {params.pretrained!r}")
        save(model, config, folder)
        log.info("activation: %s, by %s", "QuickGELU" if quick else "GELU", why)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read an open_clip ``local-dir``."""
        if not (folder / WEIGHTS).is_file():
            raise InputError(f"{folder / WEIGHTS}: not found; run `dvc repro weights`")
        import open_clip

        name = f"local-dir:{folder}"
        return cls(open_clip.create_model(name), open_clip.get_tokenizer(name))

    def tokenize(self, texts: Sequence[str]) -> Tensor:  # noqa: D102
        return cast(Tensor, self._tokenizer(list(texts)))

    def token_counts(self, texts: Sequence[str]) -> list[int]:  # noqa: D102
        return [len(self._tokenizer.encode(text)) + 2 for text in texts]

    def vocabulary_sizes(self) -> tuple[int, int]:  # noqa: D102
        return self._tokenizer.vocab_size, self.model.token_embedding.num_embeddings

    def encode_text(self, tokens: Tensor) -> Tensor:  # noqa: D102
        return cast(Tensor, self.model.encode_text(tokens))

    def encode_words(self, tokens: Tensor) -> Tensor:  # noqa: D102
        model = self.model
        kind = model.transformer.get_cast_dtype()
        embedded = model.token_embedding(tokens).to(kind) + model.positional_embedding.to(kind)
        states = model.ln_final(model.transformer(embedded, attn_mask=model.attn_mask))
        return cast(Tensor, states @ model.text_projection)

    def word_counts(self, tokens: Tensor) -> Tensor:
        """Return the tokens up to the end token, whose id is the highest."""
        return tokens.argmax(dim=-1) + 1

    def encode_image(self, pixels: Tensor) -> Tensor:  # noqa: D102
        return cast(Tensor, self.model.encode_image(pixels))

    def text_transformer(self) -> TextTransformer:  # noqa: D102
        blocks = self.model.transformer.resblocks
        return TextTransformer(
            position=self.model.positional_embedding.detach().clone(),
            layers=[
                {name: value.detach().clone() for name, value in block.state_dict().items()}
                for block in blocks
            ],
            heads=blocks[0].attn.num_heads,
            activation="quick_gelu" if _has_quick_gelu(self.model) else "gelu",
        )

    def openai_weights(self) -> dict[str, Tensor]:  # noqa: D102
        return dict(self.model.state_dict())

    def take(self, weights: Mapping[str, Tensor]) -> None:  # noqa: D102
        self.model.load_state_dict(weights)

    def write(self, folder: Path) -> None:  # noqa: D102
        save_tensors(self.model.state_dict(), folder / WEIGHTS)


def _has_quick_gelu(model: nn.Module) -> bool:
    from open_clip.transformer import QuickGELU

    return any(isinstance(module, QuickGELU) for module in model.modules())


@contextmanager
def without_warning() -> Iterator[None]:
    """Drop open_clip's warning that a model has no weights: it is about to get them."""
    root = logging.getLogger()  # open_clip logs with the root logger

    def wanted(record: logging.LogRecord) -> bool:
        return "No pretrained weights" not in record.getMessage()

    root.addFilter(wanted)
    try:
        yield
    finally:
        root.removeFilter(wanted)


def load_exactly(model: nn.Module, state: Any, where: str) -> None:
    """Load weights that have the model's own names and shapes, and no others.

    Raises:
        InputError: one is missing, left over, no tensor of floats, or of another shape.
    """
    if not isinstance(state, Mapping):
        raise InputError(f"{where}: expected a state dict, found {type(state).__name__}")
    # numbers that OpenAI's archives hold beside the weights
    state = {k: v for k, v in state.items() if k not in OPENAI_NUMBERS}
    own = model.state_dict()
    for name in sorted(own.keys() | state.keys(), key=lambda name: (name not in TABLES, name)):
        if name not in state or name not in own:
            fault = "is not in the file" if name in own else "has no place in the model"
            raise InputError(f"{where}: {name} {fault}; name the model of these weights")
        value, expected = state[name], own[name]
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise InputError(f"{where}: {name}: expected a tensor of floats")
        if name == "logit_scale" and value.numel() == 1:
            state[name] = value = value.reshape(expected.shape)
        if value.shape != expected.shape:
            raise InputError(
                f"{where}: {name} is {tuple(value.shape)} in the file and {tuple(expected.shape)} "
                "in the model: another resolution, context, vocabulary or width; name the model of "
                "these weights (nothing is resized)"
            )
    model.load_state_dict(state)


def save(model: nn.Module, config: dict[str, Any], folder: Path) -> None:
    """Write an open_clip ``local-dir``.

    The config gets the model's own activation, which is the one that its weights were trained with;
    another one would silently lower all results.
    """
    plain = isinstance(getattr(model, "text_projection", None), Tensor)
    if not plain or "hf_tokenizer_name" in config["text_cfg"]:
        raise InputError(
            "params.yaml: encoder.model: only open_clip models with a plain CLIP text tower work "
            "here (ViT-B-32, ViT-B-16, ViT-L-14, ...)"
        )
    config = {**config, "quick_gelu": _has_quick_gelu(model)}
    preprocess = dict(cast(Any, model).visual.preprocess_cfg)
    (folder / CONFIG).write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent=2, sort_keys=True),
        encoding="utf-8",
    )
    save_tensors({name: v.float() for name, v in model.state_dict().items()}, folder / WEIGHTS)


ENCODER = OpenClip
