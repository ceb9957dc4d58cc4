"""Places that are no path on this machine: a bucket, as gs://bucket/folder, or what fsspec opens.

A place holds objects: each is written whole or not at all, and read whole. Nothing there can be
appended to, locked, or renamed with all that is below it in one step.
"""

from __future__ import annotations

import atexit
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:  # imported where it is needed: a --help is not to wait for it
    from etils import epath

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://+[^/]")
# The libraries of which an address may be known; the first one is an extra of ours.
_LIBRARIES = {"gs": "'grm-jax[gcs]'", "s3": "s3fs", "az": "adlfs"}
Where: TypeAlias = "Path | epath.Path"  # on this machine, or at an address
# Kinds of places that create an object only if there is none, in one step.
_EXCLUSIVE = ("gs", "gcs", "s3", "memory")
# What file systems call a checksum of the content, or the time that stands for it.
TAGS = ("crc32c", "ETag", "mtime", "LastModified", "created")
_COPIES: dict[str, str] = {}  # of folders on this machine, the address that each is a copy of


def is_address(path: str | Path) -> bool:
    """Whether this is the address of a place, such as gs://bucket/folder, and no path."""
    return isinstance(path, str) and _ADDRESS.match(path) is not None


@dataclass(frozen=True)
class Stored:
    """What a place says of an object: its size, and what changes with its content, such as a
    checksum."""

    size: int
    digest: str


@dataclass(frozen=True)
class Place:
    """A file or a folder of a place, by its address.

    All methods raise ValueError, with the address and the reason, where the place cannot be
    reached or does not allow it.
    """

    address: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "address", self.address.rstrip("/"))

    def __truediv__(self, name: str) -> Place:
        return Place(f"{self.address}/{name}")

    def __str__(self) -> str:
        return self.address

    @property
    def name(self) -> str:
        return self.address.rpartition("/")[2]

    @property
    def parent(self) -> Place:
        return Place(self.address.rpartition("/")[0])

    @property
    def can_lock(self) -> bool:
        """Whether `create` keeps its promise here: elsewhere two processes may both succeed."""
        return self.address.partition("://")[0] in _EXCLUSIVE

    def stored(self) -> Stored | None:
        """What is known of the object; None where there is none."""
        with _explained(self, "read"):
            files, path = _opened(self.address)
            try:
                found = files.info(path)
            except FileNotFoundError:
                return None
            return _stored(found) if found["type"] == "file" else None

    def files(self) -> dict[str, Stored]:
        """All objects below this folder, by their names from here, in order."""
        with _explained(self, "read"):
            files, path = _opened(self.address)
            found = files.find(path, detail=True)
        names = {name.removeprefix(f"{path}/"): info for name, info in found.items()}
        return {
            name: _stored(info)
            for name, info in sorted(names.items())
            # An object that stands for an empty folder ends in a slash.
            if name != path and not name.endswith("/")
        }

    def read(self) -> bytes | None:
        """The content of an object; None where there is none."""
        with _explained(self, "read"):
            files, path = _opened(self.address)
            try:
                return files.cat_file(path)
            except FileNotFoundError:
                return None

    def write(self, content: bytes) -> None:
        """Writes an object; one that is there is replaced."""
        with _explained(self, "written"):
            files, path = _opened(self.address)
            files.pipe_file(path, content)

    def create(self, content: bytes) -> bool:
        """Writes an object unless there is one; of several processes only one succeeds."""
        with _explained(self, "written"):
            files, path = _opened(self.address)
            try:
                files.pipe_file(path, content, mode="create")
            except FileExistsError:
                # The answer to a request that succeeded may have been lost, and the request sent
                # again.
                return self.read() == content
            return True

    def remove(self) -> None:
        """Removes an object, if it is there."""
        with _explained(self, "written"):
            files, path = _opened(self.address)
            with suppress(FileNotFoundError):
                files.rm_file(path)

    def clear(self) -> None:
        """Removes all objects below this folder, if there are any."""
        with _explained(self, "written"):
            files, path = _opened(self.address)
            with suppress(FileNotFoundError):
                files.rm(path, recursive=True)

    def upload(self, file: Path) -> None:
        """Writes an object with the content of a file."""
        with _explained(self, "written"):
            files, path = _opened(self.address)
            files.put_file(str(file), path)

    def download(self, names: Iterable[str], folder: Path) -> None:
        """Copies these objects below this folder to a folder of this machine.

        Raises:
            ValueError: a name leads out of the folder.
        """
        names = list(names)
        if wrong := [name for name in names if ".." in name.split("/")]:
            raise ValueError(f"{self.address} holds {wrong[0]}, which is no name of a file.")
        with _explained(self, "read"):
            files, path = _opened(self.address)
            targets = [folder / name for name in names]
            for parent in {target.parent for target in targets}:
                parent.mkdir(parents=True, exist_ok=True)
            if names:
                files.get([f"{path}/{name}" for name in names], [str(one) for one in targets])

    def move(self, names: Iterable[str], target: Place) -> None:
        """Moves these objects below this folder to below another, one after the other."""
        for name in names:
            with _explained(self / name, "moved"):
                files, path = _opened((self / name).address)
                files.cp_file(path, _opened((target / name).address)[1])
                files.rm_file(path)


def path_of(name: str | Path) -> Where:
    """The path of a folder of checkpoints, which are read where they are."""
    if not is_address(name):
        return Path(name)
    import fsspec.config
    from etils import epath

    # epath has a file system of its own, which is not to remember listings either.
    fsspec.config.conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)
    return epath.Path(name)


def at_hand(name: str | Path) -> Path:
    """A path on this machine: of an address that of a copy, which is kept until the process ends.

    Raises:
        FileNotFoundError: there is nothing at the address.
        ValueError: it cannot be read.
    """
    return _fetched(str(name).rstrip("/")) if is_address(name) else Path(name)


@cache
def _fetched(address: str) -> Path:
    place = Place(address)
    alone = place.stored() is not None
    names = [place.name] if alone else list(place.files())
    if not names:
        raise FileNotFoundError(f"there is no file or folder at {address}")
    copy = new_copy(address)
    atexit.register(shutil.rmtree, copy.parent, ignore_errors=True)
    (place.parent if alone else place).download(names, copy.parent if alone else copy)
    return copy


def new_copy(address: str) -> Path:
    """A path in a new temporary folder for a copy of what is at the address; messages name the
    address in its stead, see `shown`."""
    path = Path(tempfile.mkdtemp(prefix="grm-")).resolve() / Place(address).name
    _COPIES[str(path)] = address
    return path


def shown(text: str) -> str:
    """The text with the addresses of places where it has the paths of their copies."""
    for path, address in _COPIES.items():
        text = text.replace(path, address)
    return text


def shown_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in JSON's types, with addresses in the place of the paths of their copies."""
    return json.loads(shown(json.dumps(settings))) if _COPIES else dict(settings)


def _opened(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it. Listings are never remembered: other
    processes, and libraries, write there too."""
    from fsspec.core import url_to_fs

    return url_to_fs(address, use_listings_cache=False)


def _stored(info: Mapping[str, Any]) -> Stored:
    known = (str(info[name]) for name in TAGS if info.get(name))
    return Stored(info["size"] or 0, next(known, ""))


@contextmanager
def _explained(place: Place, what: str) -> Iterator[None]:
    """Makes a sentence of whatever the library of the place raises: each has errors of its own."""
    kind = place.address.partition("://")[0]
    try:
        yield
    except ImportError as error:
        library = _LIBRARIES.get(kind, str(error.name))
        raise ValueError(
            f"{place} needs a library that is not installed: pip install {library}."
        ) from error
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{place} cannot be {what} ({type(error).__name__}: {reason}). Check the address, the "
            "network, and that this machine may use it."
        ) from error
