"""Watches for steps that were skipped because their loss or gradient was not finite."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from grm_jax.metric_names import SKIPPED

LIMIT = 5  # so many in a row are no accident of the data
KEPT = 10  # batches that are kept to be looked at, in all


class Guard:
    """Keeps the batches of skipped steps, and stops a run that skips too many in a row.

    While steps are skipped nothing is to be saved: if it was the last update that spoilt the
    weights, checkpoints from before it must not make room for what came after.

    Args:
        folder: of the run; None keeps nothing (every process but the first).
    """

    def __init__(self, folder: Path | None):
        self._folder = folder
        self.in_row = 0

    def see(self, step: int, numbers: Mapping[str, float], batch: Any) -> None:
        """Takes note of a step.

        Args:
            batch: what the step was given, a named tuple of arrays.

        Raises:
            ValueError: it was the last of LIMIT skipped steps in a row.
        """
        if not numbers.get(SKIPPED):
            self.in_row = 0
            return
        self.in_row += 1
        if self._folder is not None:
            _keep(self._folder / f"bad_batch_{step}.npz", batch)
        if self.in_row == LIMIT:
            self._stop(step)

    def finish(self, step: int) -> None:
        """Takes note that there is no step after this one.

        Raises:
            ValueError: it was skipped, so nothing shows that the weights are good.
        """
        if self.in_row:
            self._stop(step)

    def _stop(self, step: int) -> None:
        steps = f"step {step}"
        if self.in_row > 1:
            steps = f"{self.in_row} steps in a row ({step - self.in_row + 1} to {step})"
        raise ValueError(
            f"the loss or its gradient was not finite in {steps}. None of these steps changed the "
            "weights, and the checkpoints are those from before. Look at the last steps in "
            "metrics.jsonl and at what is in bad_batch_*.npz; a lower optimizer.learning_rate "
            "mostly helps (with another output)."
        )


def _keep(path: Path, batch: Any) -> None:
    if len([other for other in path.parent.glob("bad_batch_*.npz") if other != path]) < KEPT:
        arrays: dict[str, Any] = {name: np.asarray(x) for name, x in batch._asdict().items()}
        np.savez_compressed(path, **arrays)
