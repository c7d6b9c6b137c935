"""CLIP through open_clip: any of its models, with any of its tags or a local weights file.

open_clip takes seconds to import. The functions that use it import it, since the stage ``check``
imports this file.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from xpool.encoders.base import Encoder, EncoderParams
from xpool.encoders.patches import multiply_patches
from xpool.pooling import TextTransformer
from xpool.project.errors import InputError

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"


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
    def prepare(cls, params: EncoderParams, folder: Path) -> None:
        """Fetch weights by tag, or read a local file; only tensors are read, never code.

        A tag says whether its weights were trained with QuickGELU (OpenAI's were); open_clip itself
        only warns if the model's config disagrees. A file does not say it: for OpenAI's weights,
        name the model's ``-quickgelu`` config.
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
        if params.pretrained not in tags and not Path(params.pretrained).is_file():
            raise InputError(
                f"params.yaml: encoder.pretrained: {params.pretrained!r} is neither a file nor "
                f"a tag of {params.model}; tags: {', '.join(tags)}"
            )
        tag = open_clip.get_pretrained_cfg(params.model, params.pretrained) or {}
        try:
            model = open_clip.create_model(
                params.model,
                pretrained=params.pretrained,
                force_quick_gelu=bool(tag.get("quick_gelu")),
                weights_only=True,
            )
        except Exception as error:  # of many kinds: network, archive, unpickling, shapes
            raise InputError(
                f"encoder: {params.model} with {params.pretrained!r} could not be loaded: "
                f"{' '.join(str(error).split())[:300]}; a local file must be .safetensors or a "
                "plain state dict (a TorchScript archive holds code and is refused)"
            ) from error
        config = open_clip.get_model_config(params.model)
        save(model, config, folder)

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

    def encode_text(self, tokens: Tensor) -> Tensor:  # noqa: D102
        return cast(Tensor, self.model.encode_text(tokens))

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


def _has_quick_gelu(model: nn.Module) -> bool:
    from open_clip.transformer import QuickGELU

    return any(isinstance(module, QuickGELU) for module in model.modules())


def save(model: nn.Module, config: dict[str, Any], folder: Path) -> None:
    """Write an open_clip ``local-dir``.

    The config gets the model's own activation, which is the one that its weights were trained with;
    another one would silently lower all results.
    """
    if not hasattr(model, "text_projection") or not isinstance(model.text_projection, Tensor):
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
    state = model.state_dict()
    save_file(
        {k: v.to("cpu", torch.float32).contiguous() for k, v in state.items()}, folder / WEIGHTS
    )


ENCODER = OpenClip
