"""Switch between the mini setting and the paper's: one command, and no file to edit twice.

The setting in force is ``params.yaml``; the others wait in ``settings/<name>.yaml``. Switching
moves the one in force to its place there, with whatever was edited in it, and moves the other in.

Run: ``python -m xpool.setting paper`` (or ``make setting NAME=paper``)
"""

import argparse
from pathlib import Path

from xpool.command import InputError, run
from xpool.params import PARAMS_FILE, read, setting

SETTINGS = Path("settings")


def switch(name: str) -> str:
    """Install a setting.

    Returns:
        What was done, in a sentence.

    Raises:
        InputError: there is no such setting, or a file would be lost.
    """
    current = setting()
    if name == current:
        return f"{PARAMS_FILE} holds the {name} setting already"
    wanted = SETTINGS / f"{name}.yaml"
    if not wanted.is_file():
        known = sorted({current, *(path.stem for path in SETTINGS.glob("*.yaml"))})
        raise InputError(f"{wanted}: no such setting; there are: {', '.join(known)}")
    named = read("setting", str, wanted)
    if named != name:
        raise InputError(f"{wanted}: setting: expected {name}, as its file is called; got {named}")
    place = SETTINGS / f"{current}.yaml"
    if place.exists():
        raise InputError(
            f"{place}: is there already, and {PARAMS_FILE}, which holds the {current} setting, "
            "would take its place; remove the one that is not wanted"
        )
    PARAMS_FILE.replace(place)
    wanted.replace(PARAMS_FILE)
    return f"{PARAMS_FILE} now holds the {name} setting; {current} waits in {SETTINGS}/"


def main() -> None:
    """Switch, and say so."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", help="mini, paper, or any file of settings/")
    print(switch(parser.parse_args().name))


if __name__ == "__main__":
    run(main)
