"""The path of each artifact; no other file spells ``data/``, ``results/`` or ``reports/``.

Paths of data contain the setting, so synthetic and real results can never share a file. They are
relative to the current folder, which is the top of a checkout.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

BEGAN_NS = time.time_ns()
"""When this process began to import the project's code: this file is among the first."""

TOP = Path(__file__).resolve().parents[2]
"""The folder of the code that runs: the top of its checkout."""


def fingerprints() -> Path:
    """Folder with the code and params that each module uses, one JSON file a module."""
    return Path("results", "fingerprints")


def params() -> Path:
    """Folder with the sections of ``params.yaml``, one JSON file a dotted key."""
    return Path("results", "params")


def snapshot() -> Path:
    """JSON file: the code and the params that ``check`` saw, from which the stages work."""
    return Path("results", "snapshot.json")


def raw(setting: str, benchmark: str) -> Path:
    """Folder with the benchmark's official files."""
    return Path("data", setting, "raw", benchmark)


def archives(setting: str, name: str) -> Path:
    """Folder with the archives that ``xpool get`` downloaded."""
    return Path("data", setting, "raw", "archives", name)


def files(setting: str, benchmark: str) -> Path:
    """CSV table: path, size, and time of change or SHA-256 of each raw file."""
    return Path("data", setting, "files", f"{benchmark}.csv")


def files_read(setting: str, benchmark: str) -> Path:
    """File with what is known of the content of each video, so that none is read twice."""
    return Path("data", setting, "files", f"{benchmark}.read.jsonl")


def truth(setting: str, benchmark: str) -> Path:
    """Folder with the scenes that each generated video shows (mini setting only)."""
    return Path("data", setting, "truth", benchmark)


def manifest(setting: str, benchmark: str) -> Path:
    """Parquet table: split, video_id, caption_id, caption, path."""
    return Path("data", setting, "manifest", f"{benchmark}.parquet")


def video_digests(setting: str, benchmark: str) -> Path:
    """CSV table: path, bytes, SHA-256, size and frame rate of each video of the manifest."""
    return Path("data", setting, "manifest", f"{benchmark}.videos.csv")


def manifest_report(setting: str, benchmark: str) -> Path:
    """JSON report of the checks on the raw files."""
    return Path("data", setting, "manifest", f"{benchmark}.report.json")


def frames(setting: str, benchmark: str) -> Path:
    """Folder with the packed frame cache."""
    return Path("data", setting, "frames", benchmark)


def encoder(setting: str) -> Path:
    """Folder with the encoder's weights and description."""
    return Path("data", setting, "encoder")


def embeddings(setting: str, benchmark: str) -> Path:
    """Folder with cached text and frame embeddings."""
    return Path("data", setting, "embeddings", benchmark)


def shots(setting: str, benchmark: str) -> Path:
    """CSV table: the number of shot changes, and the length in frames, of each video."""
    return Path("data", setting, "shots", f"{benchmark}.csv")


def all_scenes(setting: str) -> Path:
    """Folder with embeddings of generated videos, a folder for each number of scenes."""
    return Path("data", setting, "scenes")


def scenes(setting: str, scenes: int) -> Path:
    """Folder with embeddings of generated videos that have this number of scenes each."""
    return all_scenes(setting) / str(scenes)


def attributes(file: str) -> Path:
    """CSV table of a user's own: attributes of captions or videos, for the slices."""
    return Path("attributes", file)


def external(file: str) -> Path:
    """Similarity matrix of other code, or ``rows.csv``, which lists those that tables show."""
    return Path("external", file)


def training(setting: str, method: str, benchmark: str, seed: int) -> Path:
    """Folder with a run: checkpoint, curve and records."""
    return Path("results", setting, "train", method, benchmark, str(seed))


def similarity(setting: str, method: str, benchmark: str, seed: int) -> Path:
    """Folder with a run's scores on the test split: ``similarity.npy``, its rows and columns."""
    return Path("results", setting, "similarity", method, benchmark, str(seed))


def cost(setting: str, method: str) -> Path:
    """JSON file: what a method costs on each benchmark (:mod:`xpool.training.cost`)."""
    return Path("results", setting, "cost", f"{method}.json")


def metrics(setting: str) -> Path:
    """JSON file: the metrics of all runs, nested as ``dvc metrics show`` prints them."""
    return Path("results", setting, "metrics.json")


def metrics_table(setting: str) -> Path:
    """CSV table: the metrics of all runs, one value a row."""
    return Path("results", setting, "metrics.csv")


def ranks(setting: str) -> Path:
    """Folder with the rank of each query, one Parquet file a run."""
    return Path("results", setting, "ranks")


def ranked_cells(setting: str) -> Path:
    """CSV table: benchmark, method and seed of each run that was ranked."""
    return ranks(setting) / "cells.csv"


def statistics(setting: str) -> Path:
    """Folder with intervals, comparisons and wins, one CSV table each."""
    return Path("results", setting, "statistics")


def rank_file(setting: str, method: str, benchmark: str, seed: int) -> Path:
    """Parquet table: the rank of each query of one run."""
    return ranks(setting) / method / benchmark / f"{seed}.parquet"


def post_processed(method: str, member: str) -> str:
    """Name under which a method's ranks after a post-processing lie, in place of a method's."""
    return f"{method}+{member}"


def together_file(setting: str, method: str, member: str, benchmark: str, seed: int) -> Path:
    """Parquet table: hits of each text by the number of queries that arrive together."""
    file = rank_file(setting, post_processed(method, member), benchmark, seed)
    return file.with_suffix(".together.parquet")


def post_processing_labels(setting: str) -> Path:
    """CSV table: what each listed post-processing is called, and what it needs."""
    return ranks(setting) / "post_processing.csv"


def tables(setting: str) -> Path:
    """Folder with the tables and figures of the results."""
    return Path("results", setting, "tables")


def attention(setting: str) -> Path:
    """Folder with film strips, and with the attention on described frames."""
    return Path("results", setting, "attention")


def errors(setting: str) -> Path:
    """Folder with tables and figures of what X-Pool misses."""
    return Path("results", setting, "errors")


def studies(setting: str, study: str) -> Path:
    """Folder with a study's exported trials."""
    return Path("results", setting, "studies", study)


def ablations(setting: str) -> Path:
    """Folder with the tables and figures of all studies."""
    return Path("results", setting, "ablations")


def left_over(
    setting: str, benchmarks: Sequence[str], methods: Sequence[str], studies: Sequence[str]
) -> Iterator[Path]:
    """Yield what stages made for benchmarks, methods and studies that are listed no more."""
    made = {folder(setting, ""): benchmarks for folder in (frames, embeddings)}
    made[manifest(setting, "").parent] = benchmarks
    trained, scored = Path("results", setting, "train"), Path("results", setting, "similarity")
    made |= {trained: methods, scored: methods, cost(setting, "").parent: methods}
    made |= {Path("results", setting, "studies"): studies}
    made |= {trained / method: benchmarks for method in methods}
    for folder, listed in made.items():
        for entry in sorted(folder.glob("[!.]*")):
            if not any(f"{entry.name}.".startswith(f"{name}.") for name in listed):
                yield entry


def check_paper() -> Path:
    """Markdown table of the authors' checkpoints against the published figures."""
    return Path("results", "check-paper.md")


def report(setting: str, name: str) -> Path:
    """HTML page of the report: a notebook's, e.g. ``results``, or ``index``."""
    return Path("reports", setting, f"{name}.html")
