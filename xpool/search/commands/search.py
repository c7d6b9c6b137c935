"""Search videos by a sentence, with a trained run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from xpool.search.answers import Search


def main(
    run: Annotated[Path, typer.Argument(help="A trained run: results/.../train/...")],
    text: Annotated[str, typer.Argument(help="A sentence about a video.")],
    top: Annotated[int, typer.Option(help="How many videos to show.", min=1, max=100)] = 5,
    index: Annotated[
        list[Path] | None, typer.Option(help="Search this index in place of the test split.")
    ] = None,
    beside: Annotated[bool, typer.Option(help="Search the test split as well.")] = False,
    shortlist: Annotated[
        int | None,
        typer.Option(help="Let the method score the first N by mean pooling only.", min=1),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page where the videos play.")] = None,
) -> None:
    """Print the videos that a run finds for a sentence.

    With the frames that decided. Searches the test split of the run's benchmark, or an index made
    by `xpool index`.

    Example: xpool search results/mini/train/xpool/msrvtt/0 "a red circle slides to the left"
    """
    import time

    from xpool.project.workspace import replacing
    from xpool.search import answer_page
    from xpool.search.answers import Search
    from xpool.search.index import open_index
    from xpool.search.library import test_split
    from xpool.search.trained import Trained

    opened = Trained.open(run)
    libraries = [open_index(folder, opened) for folder in index or ()]
    if beside or not libraries:
        libraries.append(test_split(opened))
    search = Search(opened, libraries, shortlist)
    began = time.perf_counter()
    answers = search(text, top)
    note = searched(search, shortlist, time.perf_counter() - began)
    print(note)
    for answer in answers:
        seconds = answer.times_s[answer.best]
        where = f"best frame at {seconds:.1f} s ({answer.weights[answer.best]:.2f})"
        right = "  <- the video of this text" if answer.right else ""
        print(f"{answer.rank:4}  {answer.score:6.3f}  {answer.video_id}, {where}{right}")
    if html is not None:
        with replacing(html) as file:
            file.write(answer_page.whole(search, text, answers, note))
        print(f"{html}: open it in a browser")


def searched(search: "Search", shortlist: int | None, seconds: float) -> str:
    """Return what was searched, how, and in what time."""
    where = " and ".join(f"{lib.title} ({len(lib):,} videos)" for lib in search.libraries)
    how = "every video scored by the method"
    if shortlist is not None:
        how = f"the method scored the first {shortlist:,} by mean pooling"
    return f"{search.run.name}: {where}; {how}; {1000 * seconds:.0f} ms"
