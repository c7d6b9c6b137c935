"""The command ``xpool``: one sub-command for each stage of the pipeline and for each tool.

The stages and tools import what is slow inside their functions, so that ``--help`` answers at once.
"""

import typer

from xpool import compare
from xpool.project.command import run
from xpool.project.snapshot import held
from xpool.search.commands import demo, index, search
from xpool.stages import (
    ablate,
    check,
    embeddings,
    evaluate,
    frames,
    generate,
    manifest,
    ranks,
    report,
    scenes,
    shots,
    statistics,
    train,
    weights,
)
from xpool.tools import (
    compress,
    dashboard,
    doctor,
    power,
    setting,
    study_worker,
    summary,
    verify,
)
from xpool.tools.checkpoints import check_paper, export, import_checkpoint
from xpool.tools.data import add_benchmark, get
from xpool.tools.fleet import command as fleet

app = typer.Typer(
    help="Does X-Pool really beat text-agnostic pooling? The stages, in the order of the "
    "pipeline, and then the tools.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
STAGES = {
    "check": check,
    "generate": generate,
    "weights": weights,
    "manifest": manifest,
    "frames": frames,
    "embeddings": embeddings,
    "shots": shots,
    "scenes": scenes,
    "train": train,
    "evaluate": evaluate,
    "ranks": ranks,
    "statistics": statistics,
    "ablate": ablate,
    "report": report,
}
TOOLS = {
    "import-checkpoint": import_checkpoint,
    "check-paper": check_paper,
    "export": export,
    "summary": summary,
    "compare": compare,
    "power": power,
    "verify": verify,
    "dashboard": dashboard,
    "study-worker": study_worker,
    "fleet": fleet,
    "get": get,
    "add-benchmark": add_benchmark,
    "search": search,
    "index": index,
    "demo": demo,
    "compress": compress,
    "setting": setting,
    "doctor": doctor,
}
WORKS_FROM_SNAPSHOT = {*STAGES.values(), study_worker, fleet}
for name, module in (STAGES | TOOLS).items():
    app.command(name)(held(module.main) if module in WORKS_FROM_SNAPSHOT else module.main)


def main() -> None:
    """Run the sub-command that the command line names."""
    run(app)


if __name__ == "__main__":
    main()
