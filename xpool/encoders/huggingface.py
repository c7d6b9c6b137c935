"""CLIP through transformers, by hub name or local folder, as the official X-Pool code loads it.

transformers takes seconds to import. The functions that use it import it, since the stage ``check``
imports this file.
"""

import os
import pickle
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from xpool.encoders.base import Encoder, EncoderParams
from xpool.encoders.patches import multiply_patches
from xpool.pooling import TextTransformer
from xpool.project.errors import InputError


class HuggingFace(Encoder):
    """A ``CLIPModel`` with its own tokenizer and image settings."""

    def __init__(self, model: nn.Module, tokenizer: Any, processor: Any) -> None:
        super().__init__()
        self.model = cast(Any, model)
        multiply_patches(model)
        self._tokenizer = tokenizer
        self.dim = int(self.model.config.projection_dim)
        self.size_px = int(self.model.config.vision_config.image_size)
        self.mean = tuple(processor.image_mean)
        self.std = tuple(processor.image_std)
        self._context = int(self.model.config.text_config.max_position_embeddings)

    @property
    def logit_scale(self) -> nn.Parameter:  # type: ignore[override]
        """The model's own parameter, so that fine-tuning continues from it."""
        return cast(nn.Parameter, self.model.logit_scale)

    @classmethod
    def problems(cls, params: EncoderParams) -> Iterable[str]:
        """Yield the reason why transformers cannot provide such weights."""
        if params.pretrained != "hub":
            yield (
                "pretrained: must be hub with library huggingface, where model names the weights; "
                f"got {params.pretrained}"
            )

    @classmethod
    def prepare(cls, params: EncoderParams, folder: Path) -> None:
        """Fetch a model and its tokenizer, and write them as safetensors and JSON.

        Pickled weights are read with torch's tensors-only unpickler; remote code is never run.
        """
        from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

        # for pickled weights transformers would ask a public service to convert the repository
        os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"
        try:
            model, loading = CLIPModel.from_pretrained(
                params.model, trust_remote_code=False, output_loading_info=True
            )
            if loading["missing_keys"]:  # transformers would draw them at random
                raise ValueError(f"no weights for {sorted(loading['missing_keys'])[0]}")
            model.save_pretrained(folder)
            CLIPTokenizerFast.from_pretrained(params.model).save_pretrained(folder)
            CLIPImageProcessor.from_pretrained(params.model).save_pretrained(folder)
        except (OSError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
            raise InputError(
                f"params.yaml: encoder.model: {params.model!r} could not be loaded through "
                f"transformers: {' '.join(str(error).split())[:300]}"
            ) from error

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read a folder that :meth:`prepare` wrote."""
        from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

        if not (folder / "model.safetensors").is_file():
            raise InputError(f"{folder}/model.safetensors: not found; run `dvc repro weights`")
        return cls(
            CLIPModel.from_pretrained(folder, use_safetensors=True, dtype=torch.float32),
            CLIPTokenizerFast.from_pretrained(folder),
            CLIPImageProcessor.from_pretrained(folder),
        )

    def tokenize(self, texts: Sequence[str]) -> Tensor:  # noqa: D102
        tokens = self._tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=self._context,
            return_tensors="pt",
        )
        return cast(Tensor, tokens["input_ids"])

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Encode; padding needs no mask, since attention is causal and EOT comes before it."""
        return _pooled(self.model.get_text_features(input_ids=tokens))

    def encode_image(self, pixels: Tensor) -> Tensor:  # noqa: D102
        return _pooled(self.model.get_image_features(pixel_values=pixels))

    def text_transformer(self) -> TextTransformer:  # noqa: D102
        text = self.model.text_model
        config = self.model.config.text_config
        activations = {"quick_gelu": "quick_gelu", "gelu": "gelu"}
        if config.hidden_act not in activations:
            raise InputError(f"encoder: text activation {config.hidden_act!r} is not CLIP's")
        return TextTransformer(
            position=text.embeddings.position_embedding.weight.detach().clone(),
            layers=[_openai_names(layer.state_dict()) for layer in text.encoder.layers],
            heads=config.num_attention_heads,
            activation=activations[config.hidden_act],
        )


def _pooled(features: Any) -> Tensor:
    # transformers 5 returns an output object where 4 returned the tensor
    return cast(Tensor, features if isinstance(features, Tensor) else features.pooler_output)


def _openai_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename one layer of transformers' CLIP to OpenAI's names, joining q, k and v."""
    renamed = {}
    for kind in ("weight", "bias"):
        parts = [state[f"self_attn.{part}_proj.{kind}"] for part in "qkv"]
        renamed[f"attn.in_proj_{kind}"] = torch.cat(parts)
        renamed[f"attn.out_proj.{kind}"] = state[f"self_attn.out_proj.{kind}"]
        renamed[f"ln_1.{kind}"] = state[f"layer_norm1.{kind}"]
        renamed[f"ln_2.{kind}"] = state[f"layer_norm2.{kind}"]
        renamed[f"mlp.c_fc.{kind}"] = state[f"mlp.fc1.{kind}"]
        renamed[f"mlp.c_proj.{kind}"] = state[f"mlp.fc2.{kind}"]
    return {name: value.detach().clone() for name, value in renamed.items()}


ENCODER = HuggingFace
