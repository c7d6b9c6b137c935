"""Stand-ins of official files under their real names."""

import json
import zipfile
from pathlib import Path

SHARED = Path(__file__).resolve().parents[2] / "shared" / "annotations"
"""The real annotation files, where they are."""
MSVD_IDS = {"train": "-4wsuPCjDBc_5_15", "val": "bQJQGoJF7_k_162_169", "test": "eyhzdC936uk_15_27"}


def msvd_annotations():
    """Name to bytes of MSVD's annotation files, with a video in each split."""
    files = {f"{split}_list.txt": f"{name}\n".encode() for split, name in MSVD_IDS.items()}
    captions = {name: [f"a video of {split}"] for split, name in MSVD_IDS.items()}
    return files | {"captions_msvd.json": json.dumps(captions).encode()}


def msvd_videos():
    return {f"YouTubeClips/{name}.avi": name.encode() * 99 for name in MSVD_IDS.values()}


def zipped(path, files):
    """Write a zip archive and return its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path.read_bytes()


def laid(folder, files):
    """Write files below a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
