"""Each command that README and the other pages show fits its parser, and runs or says why not."""

import re
import shutil
import subprocess

import pytest
from documents import BLOCK, PAGES, SHELL, TOP, blocks, check, commands, spans
from projects import Project
from stage_server import serving

REAL = "docs/data/real_data.md"
"""Needs official files; tests/test_real_data_page.py runs its steps on stand-ins."""
RUN = [block for page in PAGES for block in blocks(page) if not block.mark and block.page != REAL]
A, B = ("results/mini/ranks/mean_pool/msvd/{}.parquet", "results/mini/ranks/xpool/msvd/{}.parquet")
WORDS = {
    **{f"A{n + 1}": A.format(n) for n in range(3)},
    **{f"B{n + 1}": B.format(n) for n in range(3)},
    "A": "results/mini/similarity/mean_pool/msvd/0",
    "B": "results/mini/similarity/xpool/msvd/0",
    "RUN": "results/mini/train/xpool/msvd/0",
    "TEXT": "'a red circle'",
    "VIDEOS": "data/mini/raw/msvd",
    "/tmp/before": ".work/before",
    "source .venv/bin/activate": "true",
}
"""What stands for the placeholders of the pages."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_each_command_fits_its_parser(page):
    for line in [line for block in blocks(page) for line in block.lines]:
        for words in commands(line):
            try:
                check(words)
            except (Exception, SystemExit) as error:
                pytest.fail(f"{page.name}: {line}: {error!r}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_each_command_in_the_text_fits_its_parser(page):
    """There a command may be named without all of its words."""
    for span in spans(page):
        try:
            check([word for word in span.split() if word != "..."])
        except (Exception, SystemExit) as error:
            if type(error).__name__ not in ("MissingParameter", "BadOptionUsage"):
                pytest.fail(f"{page.name}: {span}: {error!r}")


@pytest.mark.parametrize(
    "line",
    [
        "xpool train --metod xpool",
        "xpool trian",
        "xpool search RUN",
        "make nothing",
        "make demo PROT=1",
        "dvc repro train_xpool@msvdd",
        "dvc repro trian",
        "dvc exp run -S train.epoch=1",
        "dvc repo",
        "accelerate launch -m xpool train --method xpool --benchmrk msrvtt",
        "true; xpool search RUN TEXT --tops 5",
        "nothing at all",
        "python -c 'import ('",
        "python -m performance.bands",
    ],
)
def test_a_command_that_does_not_exist_is_found(line):
    *_, last = commands(line)
    with pytest.raises((Exception, SystemExit)):
        check(last)


def test_each_block_says_what_it_holds_or_is_commands():
    """A block of another language holds no command: none may hide there."""
    for page in PAGES:
        for _, _, language, text in BLOCK.findall(page.read_text()):
            if language not in SHELL | {"python"}:
                assert not re.search(r"^(xpool|make|dvc) ", text, re.M), (page.name, text)


def test_a_mark_gives_the_reason_and_names_files_that_exist():
    for page in PAGES:
        for block in blocks(page):
            if block.mark:
                assert re.match(r"(not run: \w|run by (tests/|\.ci/run))", block.mark), block
                for path in re.findall(r"(?:tests/|\.ci/)[\w/.]*\w", block.mark):
                    assert (TOP / path).exists(), block


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A small project after `dvc repro`, in which the commands run as a user's do."""
    folder = tmp_path_factory.mktemp("documented")
    made = Project(
        folder / "project",
        seeds=[0, 1, 2],
        studies={"own_models": ["temperature"], "trained_models": []},
    )
    shutil.copy(TOP / "Makefile", made.folder)
    with serving(folder) as commands_folder:
        make = commands_folder / "make"  # its environment is this one
        make.write_text(f'#!/bin/sh\nexec {shutil.which("make")} -o setup "$@"\n')
        make.chmod(0o755)
        made.commands = commands_folder
        made.repro()
        similarity = made.folder / "results/mini/similarity/xpool/msrvtt"
        for number, name in enumerate(("video", "titles")):
            shutil.copy(similarity / f"{number}/similarity.npy", made.folder / f"{name}.npy")
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("block", RUN, ids=lambda block: f"{block.page}: {block.lines[0]}")
def test_the_commands_run(project, block):
    text = block.text
    for word, value in WORDS.items():
        text = re.sub(rf"(?<![\w/.-]){re.escape(word)}(?![\w/.-])", value, text)
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", text], cwd=project.folder,
        env=project.environment | {"PAGER": "cat"}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, f"{text}\n{done.stdout[-4000:]}"
