"""Progress bars: live in a terminal, few lines in a log file."""

import io
import itertools

import pytest

from xpool.project import progress as module
from xpool.project.progress import progress


class Stream(io.StringIO):
    """Stands for stderr."""

    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.fixture
def stderr(monkeypatch):
    """Call it in the test: pytest replaces stderr between fixtures and test."""

    def stderr(terminal=False):
        stream = Stream(terminal)
        monkeypatch.setattr("sys.stderr", stream)
        return stream

    return stderr


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets, and no thread beside it that looks at the real one."""
    now = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    monkeypatch.setattr("tqdm.std.tqdm.monitor_interval", 0)

    def run(bar, seconds_each):
        """Iterate, while each item takes so long."""
        for item in bar:
            now[0] += seconds_each
            yield item

    return run


def test_items_pass_through(stderr):
    for terminal in (False, True):
        stderr(terminal)
        assert list(progress(range(5), "numbers")) == [0, 1, 2, 3, 4]


def test_a_short_loop_writes_nothing_to_a_log_file(stderr, clock):
    stream = stderr()
    assert len(list(clock(progress(range(590), "videos"), 0.1))) == 590
    assert stream.getvalue() == ""


@pytest.mark.parametrize("seconds_each", [0.01, 1.0, 7.0, 45.0, 200.0])
def test_a_long_loop_writes_at_most_a_line_a_minute(stderr, clock, seconds_each):
    stream = stderr()
    minutes = 20
    count = int(minutes * 60 / seconds_each)
    assert len(list(clock(progress(range(count), "videos"), seconds_each))) == count
    lines = stream.getvalue().splitlines()
    assert 2 <= len(lines) <= minutes + 1, "and one at the end"
    assert lines[-1].startswith("videos: 100%")


def test_a_log_file_has_whole_lines(stderr, clock):
    stream = stderr()
    bar = progress(range(100), "videos")
    for _ in clock(bar, 10.0):
        bar.set_postfix(loss="0.5", refresh=False)
    text = stream.getvalue()
    assert text.endswith("\n")
    assert "\r" not in text
    lines = text.removesuffix("\n").split("\n")
    assert all(line.startswith("videos: ") and len(line) <= 100 for line in lines)
    assert "loss=0.5" in lines[-1]


def test_a_bar_that_the_caller_advances_follows_the_same_rules(stderr, clock):
    stream = stderr()
    with progress(title="trials", total=30) as bar:
        for _ in clock(range(30), 30.0):
            bar.update()
    lines = stream.getvalue().splitlines()
    assert 2 <= len(lines) <= 16
    assert "30/30" in lines[-1]


def test_a_bar_inside_another_writes_whole_lines_too(stderr, clock):
    """In a terminal, `tqdm` moves the cursor up and down between the two."""
    stream = stderr()
    for _ in clock(progress(range(3), "outer"), 1.0):
        for _ in clock(progress(range(30), "inner", leave=False), 10.0):
            pass
    lines = stream.getvalue().splitlines()
    assert {line.split(":")[0] for line in lines} == {"outer", "inner"}
    assert all(line.isprintable() for line in lines)


def test_a_disabled_bar_writes_nothing(stderr, clock):
    stream = stderr()
    list(clock(progress(range(100), "videos", disable=True), 10.0))
    assert stream.getvalue() == ""


def test_a_terminal_shows_one_bar_that_moves(stderr, clock):
    stream = stderr(terminal=True)
    list(clock(progress(range(100), "videos"), 1.0))
    text = stream.getvalue()
    assert text.count("\r") > 50
    assert text.count("\n") == 1, "when it is done"
    assert "100/100" in text


def test_a_terminal_is_spared_more_than_two_updates_a_second(stderr, clock):
    stream = stderr(terminal=True)
    list(clock(progress(range(10_000), "videos"), 0.01))
    assert 100 < stream.getvalue().count("\r") < 210


def test_the_real_clock_is_followed_too(stderr, monkeypatch):
    """With minutes of 50 ms; nothing depends on the speed of this machine but the upper bound."""
    stream = stderr()
    monkeypatch.setattr(module, "MINUTE_S", 0.05)
    from time import monotonic, sleep

    began = monotonic()
    for _ in progress(itertools.islice(itertools.count(), 60), "videos"):
        sleep(0.005)
    minutes = (monotonic() - began) / 0.05
    assert 1 <= stream.getvalue().count("\n") <= minutes + 1
