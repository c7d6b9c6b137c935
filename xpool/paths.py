"""Which artifact lies where: the only file that spells ``data/`` and ``results/``.

Paths of data start with the setting, so that synthetic and real results can never share a file.
"""

from pathlib import Path


def needs() -> Path:
    """Folder of what each module needs of code and params, one JSON file a module."""
    return Path("results", "needs")


def params() -> Path:
    """Folder of the sections of ``params.yaml``, one JSON file a dotted key."""
    return Path("results", "params")


def raw(setting: str, benchmark: str) -> Path:
    """Folder with the benchmark's files as they are distributed."""
    return Path("data", setting, "raw", benchmark)


def truth(setting: str, benchmark: str) -> Path:
    """Folder with what the generator knows of its videos (mini setting only)."""
    return Path("data", setting, "truth", benchmark)


def manifest(setting: str, benchmark: str) -> Path:
    """Parquet table: split, video_id, caption_id, caption, path."""
    return Path("data", setting, "manifest", f"{benchmark}.parquet")


def video_digests(setting: str, benchmark: str) -> Path:
    """CSV table: path, bytes and sha256 of each video of the manifest."""
    return Path("data", setting, "manifest", f"{benchmark}.videos.csv")


def manifest_report(setting: str, benchmark: str) -> Path:
    """JSON report of the checks on the raw files."""
    return Path("data", setting, "manifest", f"{benchmark}.report.json")


def frames(setting: str, benchmark: str) -> Path:
    """Folder of the packed frame cache."""
    return Path("data", setting, "frames", benchmark)


def encoder(setting: str) -> Path:
    """Folder with the encoder's weights and description."""
    return Path("data", setting, "encoder")


def embeddings(setting: str, benchmark: str) -> Path:
    """Folder of cached text and frame embeddings."""
    return Path("data", setting, "embeddings", benchmark)


def shots(setting: str, benchmark: str) -> Path:
    """CSV table: the shot changes of each video of a benchmark."""
    return Path("data", setting, "shots", f"{benchmark}.csv")


def all_scenes(setting: str) -> Path:
    """Folder of cached embeddings of generated videos, a folder for each number of scenes."""
    return Path("data", setting, "scenes")


def scenes(setting: str, scenes: int) -> Path:
    """Folder of cached embeddings of generated videos with so many scenes."""
    return all_scenes(setting) / str(scenes)


def training(setting: str, method: str, benchmark: str, seed: int) -> Path:
    """Folder of one run: checkpoint and curves."""
    return Path("results", setting, "train", method, benchmark, str(seed))


def similarity(setting: str, method: str, benchmark: str, seed: int) -> Path:
    """Folder of one run on the test split: ``similarity.npy`` and its rows and columns."""
    return Path("results", setting, "similarity", method, benchmark, str(seed))


def metrics(setting: str) -> Path:
    """Metrics of all runs, in the nested form that ``dvc metrics show`` prints."""
    return Path("results", setting, "metrics.json")


def metrics_table(setting: str) -> Path:
    """Metrics of all runs in long form, one value a row."""
    return Path("results", setting, "metrics.csv")


def ranks(setting: str) -> Path:
    """Folder of per-query ranks, one Parquet file a run."""
    return Path("results", setting, "ranks")


def statistics(setting: str) -> Path:
    """Folder of intervals, comparisons and wins, one CSV each."""
    return Path("results", setting, "statistics")


def rank_file(setting: str, method: str, benchmark: str, seed: int) -> Path:
    """Parquet table: the rank of each query of one run."""
    return ranks(setting) / method / benchmark / f"{seed}.parquet"


def tables(setting: str) -> Path:
    """Folder of the result tables and figures."""
    return Path("results", setting, "tables")


def attention(setting: str) -> Path:
    """Folder of the attention demo's film strips, and of the attention on described frames."""
    return Path("results", setting, "attention")


def studies(setting: str, study: str) -> Path:
    """Folder of a study's exported trials."""
    return Path("results", setting, "studies", study)


def ablations(setting: str) -> Path:
    """Folder of the tables and figures of all studies."""
    return Path("results", setting, "ablations")


def report(setting: str, name: str) -> Path:
    """A notebook's rendered page, e.g. ``results``."""
    return Path("reports", setting, f"{name}.html")
