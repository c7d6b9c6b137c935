"""The command ``xpool setting``: switch between the mini setting and the paper's.

The setting in force is ``params.yaml``; the others are ``settings/<name>.yaml``. Switching moves
both files, with their edits.
"""

import subprocess
from pathlib import Path
from typing import Annotated

import typer

from xpool.project.errors import InputError

SETTINGS = Path("settings")


def switch(name: str) -> str:
    """Install a setting.

    Returns:
        A sentence that says what was done.

    Raises:
        InputError: there is no such setting, or a file would be overwritten.
    """
    from xpool.project.params import PARAMS_FILE, read, setting

    current = setting()
    if name == current:
        return f"{PARAMS_FILE} holds the {name} setting already"
    wanted = SETTINGS / f"{name}.yaml"
    if not wanted.is_file():
        known = sorted({current, *(path.stem for path in SETTINGS.glob("*.yaml"))})
        listed = ("git", "ls-files", "--", str(wanted))
        kept = subprocess.run(listed, capture_output=True, text=True, check=False).stdout.strip()
        back = (
            f"; `git checkout {wanted}` brings it back as it is in the repository" if kept else ""
        )
        raise InputError(f"{wanted}: no such setting; there are: {', '.join(known)}{back}")
    named = read("setting", str, wanted)
    if named != name:
        raise InputError(f"{wanted}: setting: expected {name}, the name of the file; got {named}")
    path = SETTINGS / f"{current}.yaml"
    if path.exists() and path.read_bytes() != PARAMS_FILE.read_bytes():
        raise InputError(
            f"{path}: exists already, and {PARAMS_FILE}, which holds the {current} setting, would "
            f"overwrite it; remove {path}, or move it to {PARAMS_FILE}, and run this again"
        )
    PARAMS_FILE.replace(path)
    wanted.replace(PARAMS_FILE)
    return f"{PARAMS_FILE} now holds the {name} setting; {current} waits in {SETTINGS}/"


def main(
    name: Annotated[str, typer.Argument(help="mini, paper, or any file of settings/.")],
) -> None:
    """Install a setting, such as paper, as params.yaml.

    The setting in force moves to settings/, with its edits.

    Example: xpool setting paper
    """
    print(switch(name))
