"""The activation of weights for open_clip: GELU, or the QuickGELU of OpenAI's and some others.

Weights run with the other one load without an error and lower every result. A file of tensors does
not say which one it was trained with, so it is looked for beside the file and in its name.
"""

import json
import logging
import re
from pathlib import Path
from typing import Any

from xpool.encoders.base import EncoderParams
from xpool.project.digests import sha256
from xpool.project.errors import InputError

LEAST_TAG = 5
"""Letters of the shortest tag that is looked for in names; ``v1`` could be part of any."""
log = logging.getLogger(__name__)


def has_quick_gelu(params: EncoderParams, path: Path | None) -> tuple[bool, str]:
    """Return whether the weights are to run with QuickGELU, and what says so.

    Args:
        params: ``encoder``; ``activation`` decides unless it is ``auto``.
        path: the weights' file, or None if ``pretrained`` is a tag.

    Raises:
        InputError: nothing tells, and open_clip has the model with either activation.
    """
    import open_clip

    found: tuple[bool, str] | None
    if path is None:
        tag = open_clip.get_pretrained_cfg(params.model, params.pretrained)
        found = bool(tag.get("quick_gelu")), f"the tag {params.pretrained}"
    else:
        found = _told_by(path, params.model) or _told_by_model(params.model)
    if params.activation != "auto":
        quick = params.activation == "quick_gelu"
        if found and found[0] != quick:
            log.warning("encoder.activation is %s, against %s", params.activation, found[1])
        return quick, "encoder.activation"
    if found is None:
        raise InputError(
            f"params.yaml: encoder.activation: auto cannot tell how {params.pretrained!r} was "
            "trained: set it to quick_gelu (OpenAI's weights and those derived from them) or gelu "
            f"(most of LAION's), or name {params.model}-quickgelu"
        )
    return found


def _told_by_model(model: str) -> tuple[bool, str] | None:
    """Take what the model's name says, unless open_clip has it under both kinds of name."""
    import open_clip

    if open_clip.get_model_config(model).get("quick_gelu"):
        return True, f"the model {model}"
    if f"{model}-quickgelu" in open_clip.list_models():
        return None
    return False, f"the model {model}, which open_clip has with GELU alone"


def _told_by(path: Path, model: str) -> tuple[bool, str] | None:
    """Look at the digest of a file, at a config beside it, and at its name and its folder's."""
    import open_clip

    names = open_clip.list_pretrained_tags_by_model(model)
    tags = {name: open_clip.get_pretrained_cfg(model, name) for name in names}
    digest = sha256(path)
    for tag in tags.values():
        if digest in tag.get("url", ""):
            return bool(tag.get("quick_gelu")), f"the digest of {path}"
    if (beside := _config_beside(path)) is not None:
        return beside
    for part in (path.name, path.resolve().parent.name):
        plain = _plain(part)
        if "quickgelu" in plain:
            return True, f"the name {part}"
        for name in sorted(names, key=len, reverse=True):
            if len(name) >= LEAST_TAG and _plain(name) in plain:
                return bool(tags[name].get("quick_gelu")), f"the name {part} ({model}'s tag {name})"
    return None


def _config_beside(path: Path) -> tuple[bool, str] | None:
    """Read open_clip's or transformers' config in the folder of a weights file."""
    for name in ("open_clip_config.json", "config.json"):
        file = path.parent / name
        if not file.is_file():
            continue
        try:
            content: Any = json.loads(file.read_text(encoding="utf-8"))
            if "model_cfg" in content:
                return bool(content["model_cfg"].get("quick_gelu")), str(file)
            if "text_config" in content:
                return content["text_config"].get("hidden_act") == "quick_gelu", str(file)
        except (ValueError, TypeError, AttributeError, RecursionError, OSError) as error:
            raise InputError(
                f"{file}: not the config of a model ({error}); it is read since it lies beside "
                f"{path.name}; mend it or move the weights"
            ) from error
    return None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
