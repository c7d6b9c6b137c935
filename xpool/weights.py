"""[step: weights] Make the encoder's weights local: ``data/<setting>/encoder/``.

Everything after this step reads that folder and nothing else, so the weights are a tracked input
like any other: a hash in ``dvc.lock``, no download in the middle of a run.

Run: ``python -m xpool.weights`` (mini setting: trains the tiny CLIP, a few minutes on 2 cores)
"""

import argparse
import hashlib
import shutil
from pathlib import Path
from typing import Any

import torch

from xpool import paths
from xpool.command import run
from xpool.encoder import Encoder, EncoderParams
from xpool.interfaces import load
from xpool.params import read, setting
from xpool.pretrain import PretrainParams, pretrain
from xpool.workspace import WORK, publish, write_json


def describe(encoder: Encoder, params: EncoderParams, folder: Path) -> dict[str, Any]:
    """Return what identifies an encoder: where it came from, its shape, its files' digests.

    The stages that open the folder depend on this alone, so that no file may be left out.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {
        "library": params.library,
        "model": params.model,
        "pretrained": params.pretrained,
        "dim": encoder.dim,
        "size_px": encoder.size_px,
        "mean": list(encoder.mean),
        "std": list(encoder.std),
        "sha256": {
            str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files
        },
    }


def main() -> None:
    """Prepare the encoder of the setting in force."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    params = read("encoder", EncoderParams)
    kind = load(f"xpool.encoders.{params.library}", "ENCODER")
    folder = WORK / "encoder"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if params.pretrained == "mini_world":
        pretrain(read("encoder.pretraining", PretrainParams), folder)
    else:
        kind.prepare(params, folder)
    encoder = kind.open(folder)
    with torch.inference_mode():
        encoder.encode_text(encoder.tokenize(["a test"]))
    write_json(folder / "encoder.json", describe(encoder, params, folder))
    publish(folder, paths.encoder(setting()))


if __name__ == "__main__":
    run(main)
