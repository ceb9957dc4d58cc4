"""Checksums of a checkpoint's files: written with it, and checked before it is read.

Of a file the SHA-256 is taken. A bucket keeps a checksum of every object itself, which need not be
read for that: 300 GB of a checkpoint would pass through one machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

from grm_jax.places import Place, Stored, Where

CHECKSUMS = "checksums.json"
# Orbax's own description of a step. When all else is written it gets its time of completion.
DESCRIPTION = "_CHECKPOINT_METADATA"
COMPLETED = "commit_timestamp_nsecs"


def seal(folder: Where) -> None:
    """Writes the checksums of all files in the folder into its `checksums.json`."""
    written = _of_files(folder) if isinstance(folder, Path) else _of_objects(folder)
    (folder / CHECKSUMS).write_text(json.dumps({"files": written}, indent=1) + "\n")


def _of_files(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    with ThreadPoolExecutor() as pool:
        return {
            path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": digest}
            for path, digest in zip(files, pool.map(_digest, files), strict=True)
        }


def _of_objects(folder: Where) -> dict[str, dict[str, Any]]:
    """As the bucket has them, except for Orbax's description, which changes once more."""
    found = {
        name: {"bytes": stored.size, "stored": stored.digest}
        for name, stored in Place(str(folder)).files().items()
    }
    if DESCRIPTION in found:
        found[DESCRIPTION] = {"sha256": _digest(folder / DESCRIPTION)}
    return found


def fault(folder: Where) -> str | None:
    """What is wrong with a sealed folder, to follow its name in a sentence; None if it is sound."""
    try:
        wanted = json.loads((folder / CHECKSUMS).read_text())["files"]
        stored = {} if isinstance(folder, Path) else Place(str(folder)).files()
        with ThreadPoolExecutor() as pool:
            faults = pool.map(lambda item: _fault(folder, stored, *item), wanted.items())
            return next((one for one in faults if one is not None), None)
    except FileNotFoundError:
        return f"has no {CHECKSUMS}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:120]
        return f"has a {CHECKSUMS} that cannot be read ({type(error).__name__}: {reason})"


def is_described(folder: Where, custom: dict[str, Any]) -> bool:
    """Whether Orbax's description of a step is all there, with this metadata of ours."""
    try:
        found = json.loads((folder / DESCRIPTION).read_text())
        ours = found.get("custom_metadata") or {}
        return bool(found.get("item_handlers")) and ours == json.loads(json.dumps(custom))
    except (OSError, ValueError, AttributeError):
        return False


def description(folder: Where) -> dict[str, Any] | None:
    """Orbax's description of a sealed step; None if it is not the one that was written."""
    try:
        wanted = json.loads((folder / CHECKSUMS).read_text())["files"][DESCRIPTION]["sha256"]
        path = folder / DESCRIPTION
        return json.loads(path.read_text()) if _digest(path) == wanted else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _fault(
    folder: Where, stored: Mapping[str, Stored], name: str, wanted: dict[str, Any]
) -> str | None:
    path = folder / name
    try:
        if isinstance(path, Path):
            size, held = path.stat().st_size, None
        elif name in stored:
            size, held = stored[name].size, stored[name].digest
        else:
            return f"lacks {name}"
        # The size of the description changes when its time is written into it.
        if path.name != DESCRIPTION and size != wanted["bytes"]:
            return f"has {size} bytes in {name}, of which {wanted['bytes']} were written"
        # What a bucket said of an object is not known of a copy of it elsewhere.
        differs = (
            held not in (None, wanted["stored"])
            if "stored" in wanted
            else (_digest(path) != wanted["sha256"])
        )
        if differs:
            return f"holds something else in {name} than was written"
    except FileNotFoundError:
        return f"lacks {name}"
    except OSError as error:
        return f"holds {name}, which cannot be read ({error.strerror})"
    return None


def _digest(path: Where) -> str:
    if path.name == DESCRIPTION:
        return hashlib.sha256(_timeless(path.read_bytes())).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(cast(BufferedReader, file), "sha256").hexdigest()


def _timeless(content: bytes) -> bytes:
    """The description without its time of completion; what is no JSON object as it is."""
    try:
        description = json.loads(content)
        description.pop(COMPLETED, None)
    except (ValueError, AttributeError):
        return content
    return json.dumps(description, sort_keys=True).encode()
