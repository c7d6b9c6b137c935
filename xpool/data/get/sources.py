"""Where official files are: ``xpool/data/benchmarks/sources.yaml``, read strictly."""

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field

from xpool.project.errors import InputError
from xpool.project.params import Section, load

SOURCES = Path(__file__).resolve().parents[1] / "benchmarks" / "sources.yaml"


class Remote(Section):
    """One file behind an address."""

    url: str
    name: str = ""
    """The file's name, where the address does not end in it."""
    gb: float | None = None
    """Its size in 10^9 bytes, about, as others report it."""
    sha256: str | None = None
    md5: str | None = None

    @property
    def file_name(self) -> str:
        """Return the name under which the file is stored."""
        return self.name or name_in(self.url)


class Web(Section):
    """Addresses that hold all of a part."""

    files: list[Remote] = Field(min_length=1)


class Hub(Section):
    """A repository of Hugging Face."""

    hub: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    kind: Literal["dataset", "model"] = "dataset"
    take: list[str] | None = None
    """Its files; None takes archives, videos and annotation files."""
    gb: float | None = None


class Links(Section):
    """Lists with the address of one video a line."""

    links: list[Remote] = Field(min_length=1)


Source = Web | Hub | Links


class Login(Section):
    """User name and password, as environment variables, and who is told them."""

    user: str
    password: str
    hosts: list[str]


class Item(Section):
    """A name that ``xpool get`` takes: a benchmark, weights or checkpoints."""

    title: str = ""
    """For what is no benchmark."""
    licence: str = ""
    access: str = ""
    """Who must ask whom for what."""
    login: Login | None = None
    parts: dict[str, list[Source]] = {}
    """Sources of each part, the preferred one first; of a benchmark ``annotations`` and
    ``videos``."""


def items() -> dict[str, Item]:
    """Return what is listed, by name.

    Raises:
        InputError: the file does not have the form that its head describes.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(dict[str, Item]).validate_python(load(SOURCES))
    except ValidationError as error:
        raise InputError(f"{SOURCES}: {' '.join(str(error).split())}") from error


def name_in(url: str) -> str:
    """Return the last part of an address's path.

    Example:
        >>> name_in("https://host/data/MSRVTT.zip?download=1")
        'MSRVTT.zip'
    """
    return urlsplit(url).path.rstrip("/").rpartition("/")[2]


def shown(url: str) -> str:
    """Return an address without what may be secret: user, password and query.

    Example:
        >>> shown("https://me:word@host:8080/data/MSRVTT.zip?token=1")
        'https://host:8080/data/MSRVTT.zip'
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
