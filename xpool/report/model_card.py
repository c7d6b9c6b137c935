"""The page of an exported run: its figures, protocol, provenance, and how other code loads it."""

import json
from pathlib import Path
from typing import Any

from xpool.data.benchmark import load
from xpool.metrics import REPORTED
from xpool.project import paths
from xpool.project.params import read
from xpool.project.records import read_record
from xpool.report.protocol import DIRECTIONS, METRICS, method_name, read_protocols
from xpool.statistics.results import intervals_of

POOLING = "pooling.safetensors"
TREC_DEPTH = 1000
"""Most videos that a TREC run lists for a text, as is usual; no official test set has more."""
FILES = {
    "model.safetensors": "the CLIP, as transformers loads it; tokenizer and configs are beside it",
    "open_clip_model.safetensors": "the CLIP, as open_clip loads it; its config is beside it",
    POOLING: "the method's own weights, under the names of its authors' code",
    "text.npy": "`(text, dim)` raw embeddings of the test captions",
    "frames.npy": "`(video, frame, dim)` raw embeddings of the test frames",
    "mask.npy": "`(video, frame)`, true where the frame exists",
    "similarity.npy": "`(text, video)` scores",
    "texts.parquet": "caption_id and video_id of each row",
    "videos.parquet": "video_id of each column",
    "ranks.parquet": "the rank of each query in both directions",
    "t2v.run.txt": f"text to video as a TREC run, {TREC_DEPTH:,} videos deep",
    "t2v.qrels.txt": "its right answers",
    "provenance.json": "commit, params, data, encoder, device and versions of the training",
}
STATED = ("run", "imported", "commit", "dirty", "data", "encoder", "decoder", "device", "versions")
"""Keys of the run's record that the page shows."""
LOADED_BY = {
    "huggingface": "from transformers import CLIPModel, CLIPTokenizerFast\n\n"
    'clip = CLIPModel.from_pretrained("FOLDER")\n'
    'tokenizer = CLIPTokenizerFast.from_pretrained("FOLDER")',
    "openclip": "import open_clip\n\n"
    'clip, preprocess = open_clip.create_model_from_pretrained("local-dir:FOLDER")\n'
    'tokenizer = open_clip.get_tokenizer("local-dir:FOLDER")',
}


def model_card(setting: str, method: str, benchmark: str, seed: int, folder: Path) -> str:
    """Return the page in Markdown, with the header that model hubs read.

    Args:
        setting: the setting in force.
        method: short name.
        benchmark: short name.
        seed: of the run.
        folder: the exported files.

    Raises:
        InputError: the run has not been scored.
    """
    run = paths.training(setting, method, benchmark, seed)
    record = read_record(run)
    protocol = next(one for one in read_protocols() if one.benchmark == benchmark)
    title = f"{method_name(method)} on {protocol.title}, seed {seed}"
    there = [f"| `{name}` | {what} |" for name, what in FILES.items() if (folder / name).is_file()]
    library = read("encoder.library", str)
    lines = [
        "---", "license: other", "tags: [text-video-retrieval]", "---", "", f"# {title}", "",
        *([f"**{protocol.heading(title)}**", ""] if protocol.synthetic else []),
        *_table(setting, method, benchmark, seed), "",
        "Intervals (95 %) are over the test videos and say nothing about other seeds.", "",
        "## Protocol", "",
        *_origin(record), protocol.how(),
        f"Manifest: {', '.join(protocol.options_in_words()) or 'as published'}.",
        f"Videos and captions of {load(benchmark).title}: {load(benchmark).licence}", "",
        "## Load", "", "```python", LOADED_BY[library], "```", "",
        "`FOLDER` is the folder of this page. Frames are normalised as its config says, and a "
        "video's frames are pooled by the method after the image tower.", "",
        "```",
        "xpool import-checkpoint FOLDER --out RUN   # the weights as a run again (train.reads: "
        "frames)",
        "xpool compare FOLDER OTHER",
        f"xpool compare FOLDER/t2v.run.txt OTHER.txt --qrels FOLDER/t2v.qrels.txt --depth "
        f"{TREC_DEPTH}",
        "```", "",
        "## Files", "", "| file | what |", "|---|---|", *there, "",
        "## Provenance", "", "```json", json.dumps(_short(record), indent=2, sort_keys=True),
        "```", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _table(setting: str, method: str, benchmark: str, seed: int) -> list[str]:
    scored = paths.similarity(setting, method, benchmark, seed)
    table = intervals_of(benchmark, method, scored)
    lines = [f"| | {' | '.join(METRICS.values())} |", f"|---|{'---|' * len(METRICS)}"]
    for direction, words in DIRECTIONS.items():
        rows = table[table["direction"] == direction].set_index("metric").loc[list(REPORTED)]
        bounds = zip(rows["mean"], rows["ci_low"], rows["ci_high"], strict=True)
        cells = [f"{mean:.2f} [{low:.2f}, {high:.2f}]" for mean, low, high in bounds]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return lines


def _origin(record: dict[str, Any]) -> list[str]:
    """Say of an imported run whose weights these are."""
    if "imported" not in record:
        return []
    return [
        f"IMPORTED from {record['imported']['file']} (SHA-256 {record['imported']['sha256']}), "
        "trained by other code; what follows about training is of this project's params."
    ]


def _short(record: dict[str, Any]) -> dict[str, Any]:
    return {key: record[key] for key in STATED if key in record}
