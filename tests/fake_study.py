"""A study whose trials do what files in the project's folder say; copied to ``studies/fake.py``.

It writes a line to ``log.txt`` when a trial starts and when it ends. A trial waits while there is
``hold-<value>`` or ``hold``, and fails while there is ``fail-<value>``.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xpool.ablation.experiment import Block, Experiment, Study, choice, grid, scale
from xpool.ablation.lab import Lab, Outcome, Point


class FakeBlock(Block):
    """``ablations.fake``."""

    values: list[int]
    offset: float
    """Added to each figure."""


def note(word: str, value: int) -> None:
    """Add a line to the log; what one write appends stays in one piece."""
    line = f"{word} {value} {os.getpid()}\n"
    file = os.open("log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())
    os.close(file)


class Fake(Study):
    """A grid."""

    name = "fake"
    question = "Does the machinery work?"
    reading = "Count."
    block = FakeBlock

    def experiments(self, block: Any, benchmark: str) -> Iterator[Experiment]:
        """Yield one grid a method."""

        def run(point: Point, lab: Lab) -> Outcome:
            value = int(point["value"])
            note("start", value)
            while Path("hold").exists() or Path(f"hold-{value}").exists():
                time.sleep(0.02)
            if Path(f"fail-{value}").exists():
                raise ValueError(f"bad value\n{value}")
            time.sleep(0.02)
            picture = lab.folder / "note.txt"
            picture.write_text(f"{value}")
            note("end", value)
            figures = {"z": 1 / (value + 3), "R@1": value + block.offset, "a": float(value)}
            return Outcome(figures=figures, artifacts=(picture,))

        for part in ("one", "two"):
            first = 0 if part == "one" else 1000
            values = [first + value for value in block.values]
            yield Experiment(
                study=self.name,
                benchmark=benchmark,
                part=part,
                space={"value": scale(values), "learnt": choice(True, False)},
                cells=grid({"value": values, "learnt": [True]}),
                objectives={"R@1": "maximize"},
                run=run,
                fixed={"method": part},
                depends=(block.offset,),
            )


STUDY = Fake()
