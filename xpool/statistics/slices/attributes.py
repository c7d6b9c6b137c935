"""Attributes of the test queries: what a caption says, and what its video is like.

An attribute has one value for each text-to-video query, a number or, in a file of the user's own, a
category. It may have none for some queries.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from xpool.data.manifest import read_manifest
from xpool.data.shots import read_lengths, read_shots
from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.made import read_made
from xpool.project.params import PARAMS_FILE, Section
from xpool.statistics.slices.own_files import read_own

Attribute = Literal["caption_words", "relation_words", "duplicates", "video_s", "shots"]

RELATIONS = {
    "above", "across", "after", "against", "along", "among", "around", "at", "before", "behind",
    "below", "beneath", "beside", "between", "beyond", "by", "down", "during", "from", "in",
    "inside", "into", "near", "next", "off", "on", "onto", "out", "outside", "over", "past",
    "through", "toward", "towards", "under", "underneath", "until", "up", "upon", "when",
    "while", "with", "within", "without", "then",
}  # fmt: skip
"""Prepositions and conjunctions of place, direction, time and company. ``to`` and ``of`` are left
out, since they mostly stand before an infinitive and between two nouns."""
NOT_VERBS = {
    "anything", "building", "ceiling", "clothing", "evening", "everything", "morning",
    "nothing", "something", "spring", "string", "thing", "wedding",
}  # fmt: skip
"""Words in -ing that are no verbs."""
LEAST_LETTERS = 5
"""Letters of a verb in -ing; shorter words such as ``ring``, ``king`` and ``sing`` are none."""


class SlicesParams(Section):
    """Section ``slices``: by what the test queries are told apart."""

    attributes: list[Attribute]
    """Attributes that are computed here."""
    files: dict[str, list[Annotated[str, Field(pattern=r"^[^/]+\.csv$")]]]
    """Files of the folder ``attributes/`` for a benchmark, with attributes of the user's own."""


@dataclass(frozen=True, kw_only=True)
class Queried:
    """The text-to-video queries of a benchmark, and where more is known of their videos."""

    setting: str
    benchmark: str
    manifest: pd.DataFrame
    """All splits."""
    rows: pd.DataFrame
    """Rows of the manifest, one a query."""

    def length_s(self) -> pd.Series:
        """Return the seconds of each video: decoded frames by the rate that its file states."""
        table = read_made(paths.video_digests(self.setting, self.benchmark))
        videos = self.manifest.drop_duplicates("video_id").set_index("video_id")
        rates = table.set_index("path")["rate_fps"].reindex(videos["path"])
        lengths = read_lengths(paths.shots(self.setting, self.benchmark)).reindex(videos.index)
        return pd.Series(lengths.to_numpy(float) / rates.to_numpy(), index=videos.index)

    def shots(self) -> pd.Series:
        """Return the shot changes of each video."""
        return read_shots(paths.shots(self.setting, self.benchmark))


def words(caption: str) -> tuple[str, ...]:
    """Return the words of a caption in lower case, without punctuation.

    A word is a run of letters and digits, so that ``man's`` is two as ``man 's`` is.

    Example:
        >>> words("The man's DOG, running.")
        ('the', 'man', 's', 'dog', 'running')
    """
    return tuple(re.findall(r"[^\W_]+", caption.lower()))


def relation_words(caption: str) -> int:
    """Return the number of words that relate things: those of :data:`RELATIONS`, and verbs in -ing.

    A rule and no tagger, which would need a model. Verbs in other forms are not counted, since
    ``plays`` and ``cuts`` may be nouns.

    Example:
        >>> relation_words("a man in a ring is singing to something on the building")
        3
    """
    return sum(
        word in RELATIONS
        or (word.endswith("ing") and len(word) >= LEAST_LETTERS and word not in NOT_VERBS)
        for word in words(caption)
    )


def duplicates(captions: pd.Series, videos: pd.Series) -> NDArray[np.int64]:
    """Return ``(query,)``: how many other videos have a caption of the same words.

    Case and punctuation do not count.

    Example:
        >>> captions = pd.Series(["A dog.", "a dog", "a dog", "a cat"])
        >>> duplicates(captions, pd.Series(["v0", "v0", "v1", "v1"])).tolist()
        [1, 1, 1, 0]
    """
    same = captions.map(words)
    return (videos.groupby(same.to_numpy()).transform("nunique") - 1).to_numpy(np.int64)


COMPUTED: dict[Attribute, Callable[[Queried], Any]] = {
    "caption_words": lambda queried: queried.rows["caption"].map(words).map(len),
    "relation_words": lambda queried: queried.rows["caption"].map(relation_words),
    "duplicates": lambda q: duplicates(q.rows["caption"], q.rows["video_id"]),
    "video_s": lambda queried: queried.length_s().reindex(queried.rows["video_id"]),
    "shots": lambda queried: queried.shots().reindex(queried.rows["video_id"]),
}
"""``(query,)`` value of each query for each attribute; NaN where there is none."""


def query_attributes(
    setting: str, benchmark: str, query: NDArray[np.str_], params: SlicesParams
) -> pd.DataFrame:
    """Return ``(query, attribute)``: numbers, or categories as text; NaN where there is no value.

    Args:
        setting: the setting in force.
        benchmark: short name of a benchmark.
        query: ``(query,)`` caption_id of each text-to-video query.
        params: section ``slices``.

    Raises:
        InputError: a file is missing or broken, a query is not in the manifest, or two attributes
            have one name.
    """
    path = paths.manifest(setting, benchmark)
    manifest = read_manifest(path)
    rows = manifest[manifest["split"] == "test"].set_index("caption_id")
    if missing := sorted(set(query) - set(rows.index)):
        raise InputError(f"{path}: no test caption {missing[0]}; run 'dvc repro' to rank anew")
    rows = rows.loc[list(query)].reset_index()
    queried = Queried(setting=setting, benchmark=benchmark, manifest=manifest, rows=rows)
    found: dict[str, NDArray[Any]] = {
        name: np.asarray(COMPUTED[name](queried), float) for name in params.attributes
    }
    for name in params.files.get(benchmark, []):
        file = paths.attributes(name)
        for column, values in read_own(file, manifest, rows).items():
            if column in (*COMPUTED, *found):
                raise InputError(
                    f"{file}: column {column}: an attribute of this name is there already; rename "
                    f"it, or take the other out of slices in {PARAMS_FILE}"
                )
            found[column] = values.to_numpy()
    return pd.DataFrame(found, index=rows.index)
