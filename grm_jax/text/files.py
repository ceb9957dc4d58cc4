"""Files that a user names: paths or hub ids, and JSON objects, read or refused in a sentence."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

_LFS = b"version https://git-lfs.github.com/spec/"


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        FileNotFoundError, ValueError: it is missing, or holds something else; names file and line.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder, where a JSON file is needed.")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing.")
    refuse_pointer(path)
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}:{error.lineno} is not JSON ({error.msg}, column {error.colno}). Was the file "
            "cut off or edited? Get it again."
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason}): save it as UTF-8.") from None
    except (
        ValueError,
        RecursionError,
    ) as error:  # a number that is too long, lists nested too deep
        raise ValueError(f"{path} cannot be read as JSON: {error}.") from None
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} holds {_KINDS[type(content)]}, where a JSON object is needed: "
            '{"name": value, ..}.'
        )
    return content


def is_hub_id(source: str) -> bool:
    """Whether this may be a hub's owner/name: ./name, ../name and ~/name are paths."""
    return re.fullmatch(r"[A-Za-z0-9_][\w.-]*/[\w.-]+", source) is not None


def refuse_pointer(path: Path) -> None:
    """Raises ValueError if the file is only git-LFS's pointer to the real one."""
    with path.open("rb") as file:
        if file.read(len(_LFS)) == _LFS:
            raise ValueError(
                f"{path} is a git-LFS pointer, not the file itself: run `git lfs pull` in the "
                "repository that it comes from, or download the file."
            )


_KINDS = {
    list: "a list",
    str: "a text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}
