"""Check a benchmark's official files, and write its manifest.

Reads ``data/<setting>/raw/<benchmark>/``. Writes the manifest (Parquet: split, video_id,
caption_id, caption, path), what its videos are (CSV: path, bytes, sha256, width, height, rate_fps),
and a report (JSON) of what is missing, empty, duplicated or miscounted. The report is written even
when a check fails.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from xpool.data.benchmark import SPLITS, Benchmark, Counts, ManifestOptions, is_blank
from xpool.data.inventory import describe, summary
from xpool.data.raw_folder import GUIDE, RawFolder, composed
from xpool.data.videos import features
from xpool.project import paths
from xpool.project.digests import sha256
from xpool.project.errors import InputError
from xpool.project.params import read, setting
from xpool.project.workspace import replacing, write_json

EXAMPLES = 5
"""How many examples are shown where not all are listed."""

log = logging.getLogger(__name__)


def examine(
    rows: pd.DataFrame,
    found_videos: frozenset[str],
    expected: Mapping[str, Counts],
    allowed_missing: float,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Check the rows of a benchmark, and drop those that cannot be used.

    Args:
        rows: as :meth:`xpool.data.benchmark.Benchmark.read` returns them.
        found_videos: ids of the videos that are there.
        expected: size of each split, before anything is dropped.
        allowed_missing: share of each split's videos that may be absent. Above 0, unexpected
            counts are warnings instead of errors.

    Returns:
        The rows whose video is there and whose caption is not empty, and the report. Its ``errors``
        must stop the run; its ``warnings`` must be logged.
    """
    errors: list[str] = []
    warnings: list[str] = []
    empty = rows["caption"].map(is_blank).astype(bool)
    missing = ~rows["video_id"].isin(found_videos)
    kept = rows[~empty & ~missing].reset_index(drop=True)
    splits = {}
    for split in SPLITS:
        of_split = rows["split"] == split
        if split not in expected and not of_split.any():
            continue
        splits[split] = _split_report(
            rows[of_split],
            kept[kept["split"] == split],
            expected.get(split, Counts(None, None)),
            missing[of_split],
            empty[of_split],
        )

    twice = _in_two_splits(rows)
    if twice:
        errors.append(f"{len(twice)} videos are in two splits: {_first_few(sorted(twice))}")
    for split, report in splits.items():
        for what in ("videos", "captions"):
            wanted, listed = report[what]["expected"], report[what]["listed"]
            if wanted is not None and wanted != listed:
                (warnings if allowed_missing > 0 else errors).append(
                    f"{split}: expected {wanted} {what}, the files list {listed}"
                )
        names, listed = report["videos_missing"], report["videos"]["listed"]
        if names:
            problem = (
                f"{split}: {len(names)} of {listed} videos ({len(names) / listed:.1%}) are "
                f"missing: {_first_few(names)}"
            )
            if len(names) / listed > allowed_missing:
                errors.append(f"{problem}; allowed_missing is {allowed_missing}")
            else:
                warnings.append(f"{problem}; they are left out")
        if report["captions_empty"]:
            warnings.append(
                f"{split}: {len(report['captions_empty'])} captions are empty and left out: "
                f"{_first_few(report['captions_empty'])}"
            )
        if report["videos"]["kept"] == 0:
            warnings.append(f"{split}: no video is left")
    if kept.empty:
        errors.append("no video with a caption is left in any split")
    report = {
        "splits": splits,
        "videos_in_two_splits": twice,
        "empty_splits": [split for split in splits if splits[split]["videos"]["kept"] == 0],
        "warnings": warnings,
        "errors": errors,
    }
    return kept, report


def _split_report(
    rows: pd.DataFrame, kept: pd.DataFrame, expected: Counts, missing: pd.Series, empty: pd.Series
) -> dict[str, Any]:
    return {
        "videos": {
            "expected": expected.videos,
            "listed": int(rows["video_id"].nunique()),
            "kept": int(kept["video_id"].nunique()),
        },
        "captions": {
            "expected": expected.captions,
            "listed": len(rows),
            "kept": len(kept),
        },
        "videos_missing": rows.loc[missing, "video_id"].unique().tolist(),
        "captions_empty": rows.loc[empty, "caption_id"].tolist(),
        "videos_left_out_for_empty_captions": sorted(
            set(rows.loc[~missing, "video_id"]) - set(kept["video_id"])
        ),
        "duplicate_captions": _duplicates(rows[~empty]),
    }


def _duplicates(rows: pd.DataFrame) -> dict[str, Any]:
    """Count identical captions within a split.

    Those that several videos share limit retrieval: equal texts have equal similarities, but belong
    to different videos.
    """
    again = rows.duplicated(["video_id", "caption"])
    n_videos = rows.groupby("caption", sort=False)["video_id"].nunique()
    shared = n_videos[n_videos > 1]
    between = rows["caption"].isin(shared.index)
    return {
        "within_video": {
            "captions": int(again.sum()),
            "examples": rows.loc[again, "caption_id"].head(EXAMPLES).tolist(),
        },
        "between_videos": {
            "captions": int(between.sum()),
            "distinct": len(shared),
            "examples": [
                {
                    "caption": caption,
                    "videos": int(count),
                    "first": rows.loc[rows["caption"] == caption, "video_id"]
                    .unique()[:EXAMPLES]
                    .tolist(),
                }
                for caption, count in shared.head(EXAMPLES).items()
            ],
        },
    }


def _in_two_splits(rows: pd.DataFrame) -> dict[str, list[str]]:
    pairs = rows[["video_id", "split"]].drop_duplicates()
    twice = pairs[pairs["video_id"].duplicated(keep=False)]
    return {
        str(name): group["split"].tolist() for name, group in twice.groupby("video_id", sort=True)
    }


def _first_few(names: list[str]) -> str:
    shown = ", ".join(names[:EXAMPLES])
    return shown if len(names) <= EXAMPLES else f"{shown} and {len(names) - EXAMPLES} more"


def expected_counts(benchmark: Benchmark, options: ManifestOptions) -> dict[str, Counts]:
    """Return the expected size of each chosen split: as generated, or as published."""
    if setting() == "mini":
        generated: dict[str, int] = read(f"generate.{benchmark.name}.videos", dict[str, int])
        counts = benchmark.mini_counts(generated, options)
    else:
        counts = benchmark.published_counts(options)
    return {split: counts[split] for split in counts if split in options.splits}


def _annotations(
    benchmark: Benchmark, files: list[Path], *, published: bool
) -> list[dict[str, Any]]:
    """Return path, origin and digest of each annotation file, and if it is the published one."""
    digests = {file: sha256(file) for file in files}
    known = benchmark.checksums if published else {}
    return [
        {
            "file": file.as_posix(),
            "distributor": benchmark.distributor(file),
            "sha256": digest,
            "as_published": digest == known[file.name] if file.name in known else None,
        }
        for file, digest in digests.items()
    ]


def _found(benchmark: Benchmark, files: list[Path], used: frozenset[str], raw: Path) -> str:
    """Say in one line which files are read, in whose form, and where the videos are."""
    named = []
    for file in files:
        by = benchmark.distributor(file)
        named.append(file.relative_to(raw).as_posix() + (f" ({by})" if by else ""))
    folders = Counter(PurePosixPath(path).parent.as_posix() for path in used)
    places = [f"{count} videos in {folder}" for folder, count in folders.most_common()]
    return f"{benchmark.title}: {', '.join(named)}; {_first_few(places) or 'no video'}"


def _similar(folder: RawFolder, splits: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return files that may be meant by the first missing videos of each split."""
    missing = [name for split in splits.values() for name in split["videos_missing"][:EXAMPLES]]
    return {name: names for name in missing if (names := folder.similar(name))}


def _instead(report: Mapping[str, Any], unused: list[str], folder: RawFolder) -> str:
    """Name the files that may be meant by missing videos, and archives that may hold them."""
    missing = [name for split in report["splits"].values() for name in split["videos_missing"]]
    if not missing:
        return ""
    near = [f"{', '.join(files)} for {name}" for name, files in report["similar_files"].items()]
    near += [f"in no list: {_first_few(unused)}"] if unused else []
    said = f"There are other files: {'; '.join(near)}. " if near else ""
    extracted = folder.of_frames()
    if "frames_fps" not in report["protocol"] and composed(missing[0]) in extracted.videos:
        said += (
            f"{extracted.videos[composed(missing[0])][0]} is a folder of pictures: if videos are "
            f"such folders, state their rate as manifest.{folder.benchmark}.frames_fps. "
        )
    return said + (f"Archives are there: {folder.unpacking()}. " if folder.archives else "")


def write_manifest(benchmark: Benchmark) -> None:
    """Write the manifest of a benchmark, the table of its videos, and the report.

    Raises:
        InputError: a file is missing or malformed, or a check failed. A failed check also deletes
            an older manifest.
    """
    options: ManifestOptions = read(f"manifest.{benchmark.name}", benchmark.Options)
    expected = expected_counts(benchmark, options)
    here = setting()
    synthetic = here == "mini"
    raw, destination = paths.raw(here, benchmark.name), paths.manifest(here, benchmark.name)
    report_path = paths.manifest_report(here, benchmark.name)
    folder = benchmark.scan(raw, options)
    rows = benchmark.chosen_rows(folder, options)
    files = benchmark.annotation_files(folder, options)
    paths_there = folder.video_paths()
    used = frozenset(rows["path"]).intersection(paths_there)
    log.info("%s", _found(benchmark, files, used, raw))
    there = frozenset(rows.loc[rows["path"].isin(used), "video_id"])
    table, report = examine(rows, there, expected, options.allowed_missing)
    unused = [path for path in paths_there if path not in used]
    report |= {
        "benchmark": benchmark.name,
        "title": benchmark.title,
        "setting": here,
        "synthetic": synthetic,
        "licence": benchmark.licence,
        "protocol": options.model_dump(mode="json", exclude_none=True),
        "videos_skipped_by_protocol": list(benchmark.skipped(options)),
        "unused_video_files": len(unused),
        "similar_files": _similar(folder, report["splits"]),
        "annotations": _annotations(benchmark, files, published=not synthetic),
    }
    write_json(report_path, report)
    for warning in report["warnings"]:
        log.warning("%s", warning)
    if report["errors"]:
        destination.unlink(missing_ok=True)  # an older one must not be used
        raise InputError(
            f"{raw}: {'; '.join(report['errors'])}. {_instead(report, unused, folder)}All names "
            f"are in {report_path}; complete the files ({GUIDE}), or allow a share of missing "
            f"videos with manifest.{benchmark.name}.allowed_missing in params.yaml"
        )
    with replacing(destination, "wb") as file:
        table.to_parquet(file, engine="pyarrow", compression="zstd", index=False)
    known = paths.files_read(here, benchmark.name)
    used_paths = table["path"].drop_duplicates().tolist()
    if options.features is None:
        videos = describe(raw, used_paths, known, options.frames_fps)
    else:
        videos = features.describe(raw, used_paths)
    with replacing(paths.video_digests(here, benchmark.name)) as file:
        videos.to_csv(file, index=False)
    write_json(report_path, report | {"videos": summary(videos)})
    for split, counts in report["splits"].items():
        log.info(
            "%s: %d videos, %d captions",
            split,
            counts["videos"]["kept"],
            counts["captions"]["kept"],
        )
