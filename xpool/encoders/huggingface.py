"""CLIP through transformers, by hub name or local folder, as the official X-Pool code loads it.

transformers takes seconds to import. The functions that use it import it, since the stage ``check``
imports this file.
"""

import json
import logging
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from xpool.encoders.base import Encoder, EncoderParams, vit_name
from xpool.encoders.names import huggingface_names, openai_names
from xpool.encoders.patches import multiply_patches
from xpool.encoders.tensors import save_tensors
from xpool.pooling import TextTransformer
from xpool.project.digests import refuse_lfs_pointer, sha256
from xpool.project.errors import InputError

log = logging.getLogger(__name__)
WEIGHTS = "model.safetensors"
WIDTHS = {
    "openai/clip-vit-base-patch32": 512,
    "openai/clip-vit-base-patch16": 512,
    "openai/clip-vit-large-patch14": 768,
    "openai/clip-vit-large-patch14-336": 768,
}
"""``projection_dim`` of models on the hub, which `check` cannot ask for."""
OLD_END_TOKEN = 2
"""``eos_token_id`` of configs from before transformers 4.31, which no text contains."""
DEFAULT_WIDTH = 512
"""``projection_dim`` of a config that does not name it."""


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
    def weights_digests(cls, params: EncoderParams) -> Iterable[str]:
        """Yield the digest of the file that transformers loads, of a folder or of the hub's cache.

        It prefers safetensors.
        """
        from huggingface_hub import try_to_load_from_cache

        for name in (WEIGHTS, "pytorch_model.bin"):
            file: Any = Path(params.model, name)
            if not Path(params.model).is_dir():
                file = try_to_load_from_cache(params.model, name)  # no path if it is not there
            if isinstance(file, str | Path) and Path(file).is_file():
                yield sha256(Path(file))
                return

    def architecture(self) -> str:
        """Return the name of the image tower."""
        vision = self.model.config.vision_config
        return vit_name(
            vision.hidden_size, vision.num_hidden_layers, vision.patch_size, vision.image_size
        )

    @classmethod
    def width(cls, params: EncoderParams) -> int | None:
        """Return the projection's width of a local folder or of OpenAI's models."""
        config = Path(params.model) / "config.json"
        if config.is_file():
            known = json.loads(config.read_text(encoding="utf-8"))
            return int(known.get("projection_dim", DEFAULT_WIDTH))
        return WIDTHS.get(params.model)

    @classmethod
    def prepare(cls, params: EncoderParams, folder: Path) -> None:
        """Fetch a model and its tokenizer, and write them as safetensors and JSON.

        Pickled weights are read with torch's tensors-only unpickler; remote code is never run.
        """
        from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizerFast
        from transformers.utils import logging as library

        # for pickled weights transformers would ask a public service to convert the repository
        os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"
        library.set_verbosity_error()  # it lists what does not fit in tables; here it is one line
        try:
            for file in sorted(Path(params.model).iterdir()) if Path(params.model).is_dir() else ():
                if file.is_file():
                    refuse_lfs_pointer(file)
            kind = CLIPConfig.get_config_dict(params.model)[0].get("model_type")
            if kind != "clip":
                raise ValueError(f"its config is of the type {kind!r}; expected clip")
            config = _with_activation(CLIPConfig.from_pretrained(params.model), params)
            model, loading = CLIPModel.from_pretrained(
                params.model,
                config=config,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused below, by name
            )
            _expect_exact(loading)
            tokenizer = CLIPTokenizerFast.from_pretrained(params.model)
            _expect_whole_vocabulary(tokenizer)
            processor = CLIPImageProcessor.from_pretrained(params.model)
        except InputError:
            raise
        except Exception as error:  # of many kinds: network, JSON, archive, unpickling, tokenizer
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise InputError(
                f"params.yaml: encoder.model: {params.model!r} could not be loaded through "
                f"transformers: {reason}"
            ) from error
        for part in (model, tokenizer, processor):
            part.save_pretrained(folder)
        for weights in folder.glob("*.safetensors"):  # which only their owner may read
            shutil.copymode(folder / "config.json", weights)
        log.info("activation: %s", config.text_config.hidden_act)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read a folder that :meth:`prepare` wrote."""
        from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

        if not (folder / WEIGHTS).is_file():
            raise InputError(f"{folder / WEIGHTS}: not found; run `dvc repro weights`")
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

    def token_counts(self, texts: Sequence[str]) -> list[int]:  # noqa: D102
        return [len(ids) for ids in self._tokenizer(list(texts))["input_ids"]] if texts else []

    def vocabulary_sizes(self) -> tuple[int, int]:  # noqa: D102
        return len(self._tokenizer), int(self.model.config.text_config.vocab_size)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Encode; padding needs no mask, since attention is causal and EOT comes before it."""
        return _pooled(self.model.get_text_features(input_ids=tokens))

    def encode_words(self, tokens: Tensor) -> Tensor:  # noqa: D102
        states = self.model.text_model(input_ids=tokens).last_hidden_state
        return cast(Tensor, self.model.text_projection(states))

    def word_counts(self, tokens: Tensor) -> Tensor:
        """Return the tokens up to the first end token, which may be the padding too."""
        # older configs name a wrong end token, for which transformers takes the highest id
        end = self.model.config.text_config.eos_token_id
        if end == OLD_END_TOKEN:
            return tokens.argmax(dim=-1) + 1
        return cast(Tensor, (tokens == end).int().argmax(dim=-1) + 1)

    def encode_image(self, pixels: Tensor) -> Tensor:  # noqa: D102
        return _pooled(self.model.get_image_features(pixel_values=pixels))

    def text_transformer(self) -> TextTransformer:  # noqa: D102
        config = self.model.config.text_config
        activations = {"quick_gelu": "quick_gelu", "gelu": "gelu"}
        if config.hidden_act not in activations:
            raise InputError(f"encoder: text activation {config.hidden_act!r} is not CLIP's")
        layers = self.model.text_model.encoder.layers
        return TextTransformer(
            position=self.model.text_model.embeddings.position_embedding.weight.detach().clone(),
            layers=[_openai_layer(layer.state_dict()) for layer in layers],
            heads=config.num_attention_heads,
            activation=activations[config.hidden_act],
        )

    def openai_weights(self) -> dict[str, Tensor]:  # noqa: D102
        return openai_names(self.model.state_dict())

    def take(self, weights: Mapping[str, Tensor]) -> None:  # noqa: D102
        self.model.load_state_dict(huggingface_names(weights))

    def write(self, folder: Path) -> None:  # noqa: D102
        save_tensors(self.model.state_dict(), folder / WEIGHTS, {"format": "pt"})


def _with_activation(config: Any, params: EncoderParams) -> Any:
    """Set the activation that params name; else the config beside the weights says it."""
    for tower in (config.text_config, config.vision_config):
        if params.activation not in ("auto", tower.hidden_act):
            log.warning(
                "encoder.activation is %s, against %s in the config of %s",
                params.activation,
                tower.hidden_act,
                params.model,
            )
            tower.hidden_act = params.activation
    if "openai" in params.model.lower() and config.text_config.hidden_act == "gelu":
        log.warning(
            "%s runs with GELU, as its config says; OpenAI's own weights need QuickGELU: "
            "encoder.activation in params.yaml",
            params.model,
        )
    return config


def _expect_exact(loading: dict[str, Any]) -> None:
    """Refuse weights of other shapes, too few weights, and weights that the config leaves out."""
    for name, found, expected in sorted(loading["mismatched_keys"]):
        raise ValueError(
            f"{name} is {tuple(found)} in the weights and {tuple(expected)} by the config: another "
            "resolution, context, vocabulary or width (nothing is resized)"
        )
    for name in sorted(loading["missing_keys"]):  # transformers would draw them at random
        raise ValueError(f"no weights for {name}")
    for name in sorted(loading["unexpected_keys"]):
        if not name.endswith("position_ids"):  # counted, and stored by older versions
            raise ValueError(f"the config has no place for the weights {name}")


def _expect_whole_vocabulary(tokenizer: Any) -> None:
    """Refuse a vocabulary with tokens that no merge makes, as after an incomplete download."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    if model["type"] != "BPE":
        return
    known = {"".join(pair) for pair in model["merges"]} | set(tokenizer.all_special_tokens)
    for token in model["vocab"]:
        if len(token.removesuffix("</w>")) > 1 and token not in known:
            raise ValueError(f"its merges are incomplete: none makes the token {token!r}")


def _pooled(features: Any) -> Tensor:
    # transformers 5 returns an output object where 4 returned the tensor
    return cast(Tensor, features if isinstance(features, Tensor) else features.pooler_output)


def _openai_layer(layer: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a copy of one layer's weights under OpenAI's names."""
    renamed = openai_names({f".{name}": value for name, value in layer.items()})
    return {name[1:]: value.detach().clone() for name, value in renamed.items()}


ENCODER = HuggingFace
