"""docs/data/real_data.md from an empty disk to the verdict: its commands, on stand-ins.

The addresses of the official files are replaced by those of a server on this machine, the encoder
by a small one, and nothing else.
"""

import re
from pathlib import Path

import pytest
import yaml
from fault_server import FaultServer
from get_inputs import zipped
from official import paper_text, write_benchmark, write_checkpoints, write_clip_folder
from projects import TOP, Project

from xpool.data.benchmark import SPLITS

PAGE = TOP / "docs" / "data" / "real_data.md"
STEP = re.compile(r"(?:<!-- not run: (.+?) -->\n +)?```\n(.*?)\n +```", re.S)
SOURCES = Path("xpool", "data", "benchmarks", "sources.yaml")

pytestmark = pytest.mark.slow


def steps():
    """Return the commands of each step, and why one is not run, in the order of the page."""
    section = PAGE.read_text().partition("## From an empty disk")[2].partition("\n## ")[0]
    found = []
    for part in re.split(r"\n(?=\d+\. )", section)[1:]:
        [(reason, lines)] = STEP.findall(part)
        found.append((reason, [line.strip() for line in lines.splitlines()]))
    return found


def serve(server, folder):
    """Put all official files on a server; return a list of sources with its addresses."""
    listed = yaml.safe_load((TOP / SOURCES).read_text())
    for name in ("msrvtt", "msvd", "lsmdc"):
        write_benchmark(name, folder / name, train=12, videos_of=SPLITS)
        videos, lists = {}, {}
        for path in (folder / name).rglob("*"):
            if path.is_file():
                kind = videos if path.suffix in (".mp4", ".avi") else lists
                kind[path.relative_to(folder / name).as_posix()] = path.read_bytes()
        for part, files in (("annotations", lists), ("videos", videos)):
            address = f"/{name}-{part}.zip"
            server.files[address] = zipped(folder / address[1:], files)
            listed[name]["parts"][part] = [{"files": [{"url": server.url(address)}]}]
    write_checkpoints(folder / "checkpoints", write_clip_folder(folder / "clip"))
    for [source] in listed["xpool-checkpoints"]["parts"].values():
        [remote] = source["files"]
        server.files[f"/{remote['name']}"] = (folder / "checkpoints" / remote["name"]).read_bytes()
        remote["url"] = server.url(f"/{remote['name']}")
    return yaml.safe_dump(listed)


def test_each_step_is_numbered_and_says_why_it_is_not_run():
    found = steps()
    assert len(found) == 9
    assert [number for number, (reason, _) in enumerate(found, 1) if reason] == [1, 9]


def test_the_commands_lead_from_an_empty_disk_to_the_verdict(tmp_path, commands):
    server = FaultServer()
    try:
        project = Project(tmp_path / "project", commands)
        (project.folder / SOURCES).write_text(serve(server, tmp_path / "official"))
        paper = paper_text(tmp_path / "official" / "clip")
        (project.folder / "settings" / "paper.yaml").write_text(paper)
        said = {}
        for number, (reason, lines) in enumerate(steps(), 1):
            if not reason:
                said[number] = project.run("bash", "-euc", "\n".join(lines))
    finally:
        server.close()
    assert "msrvtt: complete" in said[3]
    assert "| msrvtt-9k | Text → video | X-Pool (paper) | 46.9 |" in said[4]
    assert (project.folder / "params.yaml").read_text().startswith("#")  # the file, edited
    assert "imported from msrvtt-9k.pth" in said[7]
    table = said[8].partition("# ")[2] or said[8]
    assert "X-Pool (imported)" in table
    assert "46.9" in table
    assert "Verdict: not comparable (other backbone" in table  # of random weights
