"""Where a run's numbers go: metrics.jsonl (the truth), a progress display, TensorBoard, wandb."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from tqdm import tqdm

from grm_jax.metric_names import LOSS, REWARD, SKIPPED, TARGET_TOKENS, TOKENS, TOO_LONG
from grm_jax.text.json_line import json_line

Numbers = dict[str, float]
SAMPLES = "rollouts.jsonl"
SILENT = 60.0  # seconds after which a step has its line, however few there were


@dataclass(frozen=True)
class TrackingConfig:
    """What is reported besides metrics.jsonl.

    `print_every` steps, and at the latest after a minute, a line is printed where there is no
    terminal (a terminal has a bar).
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
    """Writes every step's numbers once, even over interruptions: lines after `start` are dropped.

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
        self.before: Numbers = {}  # the numbers of the step before, where they are known
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
        self.before = next(iter(cut_after(path, start)[-1:]), {})
        self._file = path.open("a", encoding="utf-8")
        self._samples = folder / SAMPLES
        cut_after(self._samples, start)
        if sys.stderr.isatty():
            self._progress = _Bar(name, start, total)
        else:
            self._progress = _Lines(name, start, total, config.print_every)

    def log(self, step: int, numbers: Numbers, samples: Sequence[Mapping[str, Any]] = ()) -> None:
        """Records the numbers of a step, and samples of it for rollouts.jsonl; a kill after it
        returns loses neither."""
        if self._file is None or self._progress is None:
            return
        self.before = numbers
        self._file.write(json_line({"step": step, **numbers}))
        self._file.flush()
        if samples:
            with self._samples.open("a", encoding="utf-8") as file:
                file.writelines(json_line({"step": step, **sample}) for sample in samples)
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
    """The rows of a metrics.jsonl, where null is a number that was not finite; a last line cut
    short by a kill is left out."""
    return [row for row, _ in _rows(path)]


def cut_after(path: Path, step: int) -> list[dict[str, Any]]:
    """Drops rows after `step`, which will be made again; the file is replaced in one go.

    Returns:
        The rows that stay. None where there is no file.
    """
    kept = [(row, line) for row, line in _rows(path) if row["step"] <= step]
    if path.exists():
        part = path.with_suffix(".part")
        part.write_text("".join(line + "\n" for _, line in kept), encoding="utf-8")
        os.replace(part, path)
    return [row for row, _ in kept]


def _rows(path: Path) -> list[tuple[dict[str, Any], str]]:
    """Rows with their lines; what is no row is left out."""
    rows = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.split("\n"):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict) and "step" in row:
            rows.append((row, line))
    return rows


class _Tally:
    """What a progress display says: the loss, the speed of this process, rows left out."""

    def __init__(self, start: int, total: int):
        self.total, self.first = total, start + 1
        self.tokens, self.too_long, self.skipped = 0.0, 0, 0
        self.began = time.monotonic()
        self.seconds_left, self.text = 0.0, ""

    def add(self, step: int, numbers: Numbers) -> None:
        now = time.monotonic()
        self.too_long += int(numbers.get(TOO_LONG, 0))
        self.skipped += int(numbers.get(SKIPPED, 0))
        shown = REWARD if REWARD in numbers else LOSS
        self.text = f"{shown.removeprefix('train/')} {numbers[shown]:.4f}"
        if step == self.first:  # compiling is no part of the speed
            self.began = now
        else:
            # The tokens that are trained on; in RL those that are sampled.
            self.tokens += numbers[TARGET_TOKENS if REWARD in numbers else TOKENS]
            spent = max(now - self.began, 1e-9)
            self.seconds_left = spent / (step - self.first) * (self.total - step)
            self.text += f", {self.tokens / spent:,.0f} tokens/s"
        if self.too_long:
            self.text += f", {self.too_long} rows left out (longer than batch.length)"
        if self.skipped:
            self.text += f", {self.skipped} steps skipped (loss or gradient not finite)"


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
        self.printed = time.monotonic()

    def show(self, step: int, numbers: Numbers) -> None:
        self.tally.add(step, numbers)
        now = time.monotonic()
        if step % self.every and step != self.total and now - self.printed < SILENT:
            return
        self.printed = now
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
