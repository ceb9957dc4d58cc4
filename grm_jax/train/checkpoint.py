"""Checkpoints: weights, optimiser and the position in the data, saved together or not at all.

Each is sealed with checksums before it gets its name, and checked before it is read: the newest
intact one counts; a broken one is reported and kept.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import grain
import orbax.checkpoint.experimental.v1 as ocp

from grm_jax.models.config import from_saved
from grm_jax.models.model import Model
from grm_jax.places import Place, Where
from grm_jax.processes import from_first, say
from grm_jax.train import checksums
from grm_jax.train.config import CheckpointConfig
from grm_jax.train.state import TrainState

BROKEN = "broken"  # where broken checkpoints are put, inside their folder
COMMITTED = "commit_success.txt"  # what Orbax writes into one in a bucket when it is whole
_WRITING = "*.orbax-checkpoint-tmp"  # what Orbax calls a checkpoint that is not whole yet


class Checkpoints:
    """The checkpoints that a run writes into a folder, one subfolder per step.

    A save copies the arrays and returns; writing goes on during the next steps. A checkpoint gets
    its name only when it is complete, so that a crash leaves no partial one (in a bucket it has
    its name from the beginning, and is whole when there is COMMITTED in it). When the folder is
    opened, partial ones are removed, and those that were damaged later are moved aside.

    Raises:
        ValueError: there are checkpoints, but none is intact.
    """

    def __init__(
        self,
        folder: Where,
        config: CheckpointConfig = CheckpointConfig(),
        model: Model | None = None,
    ):
        self._folder = absolute(folder)
        self._model: Any = {} if model is None else {"model": asdict(model)}
        from_first(lambda: _put_broken_aside(self._folder))
        from_first(lambda: _remove_unfinished(self._folder))
        # Any, because Orbax's own policies do not fit the annotation of its own arguments.
        due: Any = ocp.training.save_decision_policies.FixedIntervalPolicy(config.every)
        kept: Any = ocp.training.preservation_policies.LatestN(config.keep)
        # Called in the first process when everything is written and nothing has its name yet.
        context = ocp.Context()
        context.asynchronous.post_finalization_callback = self._seal
        self._checkpointer = ocp.training.Checkpointer(
            str(self._folder),
            context=context,
            save_decision_policy=due,
            preservation_policy=kept,
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._checkpointer.close()

    @property
    def latest(self) -> int | None:
        """The step of the newest checkpoint; it is intact when the folder has just been opened."""
        newest = self._checkpointer.latest
        return None if newest is None else newest.step

    def due(self, step: int) -> bool:
        """Whether `save` would save at this step."""
        return self.latest != step and self._checkpointer.should_save(step)

    def save(
        self,
        step: int,
        state: TrainState,
        stream: grain.DatasetIterator | None = None,
        behind: Any | None = None,
        *,
        force: bool = False,
    ) -> None:
        """Saves if the step is due (or forced), and starts writing.

        behind: the weights that the next batch is drawn from, if these are not the state's.
        """
        if self.latest == step:
            return
        rest = {"step": state.step, "opt_state": state.opt_state}
        if stream is not None:
            # As text, once: Grain itself writes a file per process, and could not continue with
            # another number of processes.
            rest["stream"] = json.dumps(stream.get_state())
        parts = {"params": state.params, "rest": rest}
        if behind is not None:
            parts["behind"] = behind
        self._checkpointer.save_checkpointables_async(
            step, parts, force=force, custom_metadata=self._model
        )

    def restore(
        self, abstract: TrainState, stream: grain.DatasetIterator | None = None
    ) -> TrainState:
        """The newest state, laid out as `abstract` says (any mesh), and the stream moved to it."""
        wanted = {"step": abstract.step, "opt_state": abstract.opt_state}
        if stream is not None:
            wanted["stream"] = ""
        parts = {"params": abstract.params, "rest": wanted}
        loaded = self._checkpointer.load_checkpointables(None, parts)
        rest = loaded["rest"]
        if stream is not None:
            stream.set_state(json.loads(rest["stream"]))
        return TrainState(rest["step"], loaded["params"], rest["opt_state"])

    def restore_behind(self, abstract: Any) -> Any:
        """The weights from which the batch after the newest state is drawn, see `save`."""
        return self._checkpointer.load_checkpointables(None, {"behind": abstract})["behind"]

    def _seal(self) -> None:
        (unnamed,) = _unfinished(self._folder)  # one is written at a time
        # Orbax writes its description in a thread of its own, which may be later.
        end = time.monotonic() + 60
        while not checksums.is_described(unnamed, self._model) and time.monotonic() < end:
            time.sleep(0.01)
        checksums.seal(unnamed)


def is_checkpoints(folder: Where) -> bool:
    """Whether the folder is one of `Checkpoints` (and no model folder)."""
    return bool(_steps(folder)) and not (folder / "config.json").exists()


def saved_model(folder: Where) -> Model:
    """The model whose weights are in a folder of checkpoints, which all hold the same one.

    Raises:
        ValueError: none of them says what its model is.
    """

    def read() -> dict[str, Any]:
        for path in _steps(folder):
            description = checksums.description(path)
            if description is not None and "model" in description["custom_metadata"]:
                return description["custom_metadata"]["model"]
        raise ValueError(
            f"{folder} holds no whole checkpoint of a model's weights. Of a run with an adapter, "
            "give the folder `model` that it has written."
        )

    saved = from_first(read)
    return Model(from_saved(saved.pop("config")), **saved)


def load_params(folder: Where, abstract: Any) -> Any:
    """The weights of the newest intact checkpoint in a folder, which is not changed.

    Raises:
        ValueError: none is intact.
    """
    step = from_first(lambda: _newest_sound(folder, "an older one is used"))
    path = absolute(folder) / str(step)
    return ocp.load_checkpointables(str(path), {"params": abstract})["params"]


def absolute(folder: Where) -> Where:
    """The whole path of a folder; an address is one."""
    return folder.absolute() if isinstance(folder, Path) else folder


def _steps(folder: Where) -> list[Where]:
    """The checkpoints in a folder, the newest first."""
    if isinstance(folder, Path):
        paths = folder.iterdir() if folder.is_dir() else ()
        steps: list[Where] = [path for path in paths if path.name.isdigit() and path.is_dir()]
    else:
        steps = [folder / step for step, whole in _in_bucket(folder).items() if whole]
    return sorted(steps, key=lambda path: int(path.name), reverse=True)


def _unfinished(folder: Where) -> list[Where]:
    """The checkpoints that are being written."""
    if isinstance(folder, Path):
        return list(folder.glob(_WRITING))
    return [folder / step for step, whole in _in_bucket(folder).items() if not whole]


def _in_bucket(folder: Where) -> dict[str, bool]:
    """The names of the checkpoints in a bucket, and whether each is whole."""
    found = list(Place(str(folder)).files())
    steps = {name.partition("/")[0] for name in found}
    return {step: f"{step}/{COMMITTED}" in found for step in steps if step.isdigit()}


def _newest_sound(folder: Where, outcome: str) -> int | None:
    """The step of the newest sound checkpoint, None if there are none at all; says of each newer
    one what is wrong with it, and the `outcome`.

    Raises:
        ValueError: there are checkpoints, but none is intact.
    """
    faults = []
    for path in _steps(folder):
        fault = checksums.fault(path)
        if fault is None:
            for broken in faults:
                say(f"{broken}: {outcome}.")
            return int(path.name)
        faults.append(f"checkpoint {path} {fault}")
    if faults:
        raise ValueError(
            "no checkpoint is intact:\n  " + "\n  ".join(faults) + f"\nRestore copies of them; or "
            f"delete or rename {folder}, and what follows from it starts over."
        )
    return None


def _put_broken_aside(folder: Where) -> None:
    """Moves checkpoints that are newer than the newest sound one into a folder beside it."""
    sound = _newest_sound(folder, f"it is moved to {folder / BROKEN}, and an older one is used")
    for path in _steps(folder):
        if sound is not None and int(path.name) > sound:
            aside = folder / BROKEN / path.name
            count = 1
            while aside.exists():
                count += 1
                aside = folder / BROKEN / f"{path.name}.{count}"
            _move(path, aside)


def _move(path: Where, aside: Where) -> None:
    if isinstance(path, Path):
        aside.parent.mkdir(exist_ok=True)
        path.rename(aside)
    else:
        place = Place(str(path))
        place.move(list(place.files()), Place(str(aside)))


def _remove_unfinished(folder: Where) -> None:
    """Removes what a kill has left.

    Orbax can do so, too, but in a thread that only a save waits for: after a run without one it
    goes on when the folder is closed, and takes away what the next run writes under that name.
    """
    for path in _unfinished(folder):
        if isinstance(path, Path):
            shutil.rmtree(path)
        else:
            Place(str(path)).clear()
