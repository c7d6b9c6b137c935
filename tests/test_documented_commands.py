"""Each command that README and the other pages show fits its parser."""

import re

import pytest
from documents import BLOCK, PAGES, SHELL, TOP, blocks, check, commands, spans


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_command_fits_its_parser(page):
    for line in [line for block in blocks(page) for line in block.lines]:
        for words in commands(line):
            try:
                check(words)
            except (Exception, SystemExit) as error:
                pytest.fail(f"{page.name}: {line}: {error!r}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
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
