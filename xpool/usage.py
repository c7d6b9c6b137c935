"""``python -m xpool.<step> --help``: the step's docstring, before anything slow is imported."""

import sys
from pathlib import Path


def answer() -> None:
    """Print what the docstring of the step says, and end, where the command line asks for help.

    ``python -m`` imports the package before the step, and this is called there: torch alone would
    take seconds. At any other import it returns at once.
    """
    if sys.argv[0] != "-m" or not {"-h", "--help"} & set(sys.argv[1:]):
        return
    import ast  # here, since every process of the project imports this module

    module = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    path = Path(__file__).parent.parent.joinpath(*module.split(".")).with_suffix(".py")
    if path.is_file():
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        sys.stdout.write(f"{text}\n")
        sys.exit()
