"""A run's output folder: it holds one run, and the resolved config that made it."""

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
def claimed(
    cfg: Any, command: str, *, output: str | None = None, looks_at_rows: bool = False
) -> Iterator[Path]:
    """Holds the folder of a run, with the config in it, which `--config` reads back; or finds the
    same run there.

    Args:
        cfg: a dataclass of plain values, with the folder as `output`.
        command: what makes the run, such as "grm train sft".
        output: the folder, where the config names none.
        looks_at_rows: the data may change, since each row is looked at again.

    Raises:
        ValueError: the folder holds a run with another config, or of other files under the same
            names; the differences are named. Or it is not ours, or another process is in it.
    """
    settings = asdict(cfg)
    names = JUDGES if looks_at_rows else TRAINING
    made = Made(command, settings, FREE, from_first(lambda: made_from(settings, names)))
    # A stage of SPCT has a folder with a stage.json in it before it begins.
    with claimed_folder(output or cfg.output, made, signs=["stage.json"]) as folder:
        yield folder
