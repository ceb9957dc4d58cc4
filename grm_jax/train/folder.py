"""A run's output folder: one run, with the resolved settings that made it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from grm_jax.judging.made_from import JUDGES, TRAINING, made_from
from grm_jax.outputs import Made, claimed_folder
from grm_jax.processes import from_first

# What may change between the parts of a run without changing its result.
FREE = ("output", "compute.mesh", "checkpoint", "tracking")


@contextmanager
def run_folder(
    command: str, output: str, *configs: Any, reads_rows_again: bool = False
) -> Iterator[Path]:
    """Holds the folder of a run with its settings in it, which `--config` reads back; or goes on
    with the same run there.

    Args:
        command: what makes the run, such as "grm train sft".
        output: the folder.
        configs: dataclasses of plain values, with different fields.
        reads_rows_again: the data may change, since each row is looked at again.

    Raises:
        ValueError: the folder holds a run with other settings, or of other files under the same
            names; the differences are named. Or it is not ours, or another process is in it.
    """
    settings = settings_of(*configs)
    names = JUDGES if reads_rows_again else TRAINING
    made = Made(command, settings, FREE, from_first(lambda: made_from(settings, names)))
    # A stage of SPCT has a folder with a stage.json in it before it begins.
    with claimed_folder(output, made, signs=["stage.json"]) as folder:
        yield folder


def settings_of(*configs: Any) -> dict[str, Any]:
    """The fields of all configs side by side, as on the command line."""
    return {name: value for config in configs for name, value in asdict(config).items()}
