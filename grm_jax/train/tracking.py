"""Where a run's numbers go: metrics.jsonl (the truth), a progress display, TensorBoard, wandb."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from tqdm import tqdm

Numbers = dict[str, float]


@dataclass(frozen=True)
class TrackingConfig:
    """What is reported besides metrics.jsonl.

    `print_every` steps a line is printed where there is no terminal (a terminal has a bar).
    `tensorboard` writes event files into the output folder; `wandb` names a project.

    Raises:
        ValueError: print_every is not positive.
    """

    print_every: int = 50
    tensorboard: bool = False
    wandb: str | None = None

    def __post_init__(self) -> None:
        if self.print_every < 1:
            raise ValueError(f"tracking.print_every is {self.print_every}; give 1 or more.")


class Tracker:
    """Writes every step's numbers once, also over interruptions: what came after `start` is cut.

    Args:
        folder: of the run; None writes and shows nothing (every process but the first).
        start: the step that the run continues after.
        total: the last step.
        name: shown beside the progress.
    """

    def __init__(
        self,
        folder: Path | None,
        config: TrackingConfig = TrackingConfig(),
        *,
        start: int = 0,
        total: int,
        name: str,
    ):
        self._file = None
        self._others: list[_Tensorboard | _Wandb] = []
        self._progress: _Bar | _Lines | None = None
        if folder is None:
            return
        if config.tensorboard:
            self._others.append(_Tensorboard(folder, start))
        if config.wandb is not None:
            self._others.append(_Wandb(folder, config.wandb, name))
        path = folder / "metrics.jsonl"
        _cut_after(path, start)
        self._file = path.open("a")
        if sys.stderr.isatty():
            self._progress = _Bar(name, start, total)
        else:
            self._progress = _Lines(name, start, total, config.print_every)

    def log(self, step: int, numbers: Numbers) -> None:
        """Records the numbers of a step; on disk when it returns, as far as a kill is concerned."""
        if self._file is None or self._progress is None:
            return
        self._file.write(json.dumps({"step": step, **numbers}) + "\n")
        self._file.flush()
        for other in self._others:
            other.log(step, numbers)
        self._progress.show(step, numbers)

    def close(self) -> None:
        """Closes files and bars."""
        if self._file is not None:
            self._file.close()
        for part in (*self._others, self._progress):
            if part is not None:
                part.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; a last line that a kill tore is left out."""
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def _cut_after(path: Path, step: int) -> None:
    """Drops rows after `step`, which will be made again. The file is replaced in one go."""
    if not path.exists():
        return
    rows = [row for row in read_metrics(path) if row["step"] <= step]
    part = path.with_suffix(".part")
    part.write_text("".join(json.dumps(row) + "\n" for row in rows))
    os.replace(part, path)


class _Tally:
    """What a progress display says: the loss, the speed of this process, rows left out."""

    def __init__(self, start: int, total: int):
        self.total, self.first = total, start + 1
        self.tokens, self.too_long, self.began = 0.0, 0, time.monotonic()
        self.seconds_left, self.text = 0.0, ""

    def add(self, step: int, numbers: Numbers) -> None:
        now = time.monotonic()
        self.too_long += int(numbers.get("data/too_long", 0))
        shown = "reward" if "reward" in numbers else "train/loss"
        self.text = f"{shown.removeprefix('train/')} {numbers[shown]:.4f}"
        if step == self.first:  # compiling is no part of the speed
            self.began = now
        else:
            self.tokens += numbers.get("data/tokens", numbers.get("num_tokens", 0.0))
            spent = max(now - self.began, 1e-9)
            self.seconds_left = spent / (step - self.first) * (self.total - step)
            self.text += f", {self.tokens / spent:,.0f} tokens/s"
        if self.too_long:
            self.text += f", {self.too_long} rows left out (longer than batch.length)"


class _Bar:
    def __init__(self, name: str, start: int, total: int):
        self.tally = _Tally(start, total)
        self.bar = tqdm(total=total, initial=start, desc=name, unit="step", dynamic_ncols=True)

    def show(self, step: int, numbers: Numbers) -> None:
        self.tally.add(step, numbers)
        self.bar.set_postfix_str(self.tally.text, refresh=False)
        self.bar.update()

    def close(self) -> None:
        self.bar.close()


class _Lines:
    def __init__(self, name: str, start: int, total: int, every: int):
        self.name, self.total, self.every = name, total, every
        self.tally = _Tally(start, total)

    def show(self, step: int, numbers: Numbers) -> None:
        self.tally.add(step, numbers)
        if step % self.every and step != self.total:
            return
        left = timedelta(seconds=round(self.tally.seconds_left))
        line = f"{self.name}: step {step}/{self.total}, {self.tally.text}, {left} left"
        print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        pass


class _Tensorboard:
    def __init__(self, folder: Path, start: int):
        try:
            from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise ValueError(
                "tracking.tensorboard needs tensorboardX: pip install 'grm-jax[tracking]'."
            ) from None
        self.writer = SummaryWriter(str(folder), purge_step=start + 1)

    def log(self, step: int, numbers: Numbers) -> None:
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class _Wandb:
    def __init__(self, folder: Path, project: str, name: str):
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise ValueError(
                "tracking.wandb needs wandb: pip install 'grm-jax[tracking]'."
            ) from None
        # The same folder is the same run, so that a resumed run continues its curves.
        identity = f"{folder.absolute().parent.name}-{name}"
        self.run = wandb.init(project=project, id=identity, dir=str(folder), resume="allow")

    def log(self, step: int, numbers: Numbers) -> None:
        self.run.log(numbers, step=step)

    def close(self) -> None:
        self.run.finish()
