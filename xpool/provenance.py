"""What a trial was run with: commit, params, device, versions."""

import hashlib
import platform
import subprocess
from functools import cache

import torch

from xpool.params import PARAMS_FILE
from xpool.sources import TOP


def provenance(device: torch.device) -> dict[str, str]:
    """Return commit (``+`` where files differ from it), digest of params.yaml, device, versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "commit": _commit(),
        "params": hashlib.sha256(PARAMS_FILE.read_bytes()).hexdigest()[:16],
        "device": f"{device.type} ({name})",
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
    }


@cache  # of the code that runs: what is committed later is not in this process
def _commit() -> str:
    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=TOP, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    commit = git("rev-parse", "HEAD")
    if not commit:
        return "not a git checkout"
    return f"{commit}{'+' if git('status', '--porcelain', '--untracked-files=no') else ''}"
