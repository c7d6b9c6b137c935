"""What docstrings of this project need to become pages: roles as links, examples as code."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):`([\w.]+)`")
EXAMPLE = re.compile(r"^Example:(?=\n +>>>)", re.M)
OURS = ("xpool", "baselines", "studies")


class Roles(griffe.Extension):
    """Rewrites docstrings before they are read as Markdown."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Rewrite all docstrings of a package."""
        _rewrite(pkg)


def _rewrite(item: griffe.Object) -> None:
    if item.docstring:
        text = ROLE.sub(lambda role: _link(item, role[1]), item.docstring.value)
        item.docstring.value = EXAMPLE.sub("Examples:", text)
    for member in item.members.values():
        if isinstance(member, griffe.Object):
            _rewrite(member)


def _link(item: griffe.Object, name: str) -> str:
    """Return a link, or a plain name if it is private or another library's.

    A name that nothing has makes a link that leads nowhere, at which a strict build stops.
    """
    first, dot, rest = name.partition(".")
    try:
        target = f"{item.resolve(first)}{dot}{rest}" if first not in OURS else name
    except griffe.NameResolutionError:
        target = name
    elsewhere = dot and target.partition(".")[0] not in OURS
    return f"`{name}`" if elsewhere or "._" in f".{name}" else f"[`{name}`][{target}]"
