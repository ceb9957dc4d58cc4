"""Paths as people write them in options and YAML files."""

import os
from pathlib import Path


def expanded(path: str | Path) -> Path:
    """The path with a leading `~` as the home folder; `./x` is `x`.

    A shell does the first for `--output ~/x`, but not for `--output=~/x` and not in a YAML file.
    What is no path, such as a hub id or a bundled model's name, stays what it is.
    """
    return Path(os.path.expanduser(path))
