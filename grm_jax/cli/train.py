"""`grm train`: runs a training stage, or all of them, and says where its result is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from grm_jax.devices import say_devices
from grm_jax.mesh import MeshConfig
from grm_jax.processes import say
from grm_jax.train import grpo, meta_rm, rft, scalar, sft, spct
from grm_jax.train.config import RunConfig
from grm_jax.train.memory import keep_freed_memory
from grm_jax.train.stages.grpo import GRPOConfig
from grm_jax.train.stages.rft import RFTConfig
from grm_jax.train.stages.scorer import MetaRMConfig, ScalarConfig
from grm_jax.train.stages.sft import SFTConfig
from grm_jax.train.stages.spct import SPCTConfig

_RUN: dict[type, tuple[Callable[[RunConfig, Any], Path | None], str]] = {
    SFTConfig: (sft.run, "The model is in {0}: grm judge --model {0}"),
    RFTConfig: (rft.run, "The model is in {0}: grm judge --model {0}"),
    GRPOConfig: (grpo.run, "The model is in {0}: grm judge --model {0}"),
    MetaRMConfig: (meta_rm.run, "The meta RM is in {0}: grm judge --meta-rm {0}"),
    ScalarConfig: (scalar.run, "The judge is in {0}, its report beside it."),
    SPCTConfig: (spct.run, "Open {0} in a browser."),
}


def run(options: tuple[RunConfig, Any]) -> int:
    """Trains; 0 if the result is written, 1 if a signal ended the run early."""
    # Orbax's threads log what they then raise, each with its traceback, before our one sentence.
    logging.getLogger("absl").addFilter(lambda record: not record.exc_info)
    keep_freed_memory()  # before the first look at the devices, which starts them
    say_devices(*_meshes(options[1]))
    train, message = _RUN[type(options[1])]
    result = train(*options)
    if result is None:
        return 1
    say(message.format(result))
    return 0


def _meshes(stage: Any) -> list[MeshConfig]:
    """The mesh of a stage; of SPCT that of each of its stages."""
    whole = isinstance(stage, SPCTConfig)
    stages = (stage.rft, stage.grpo, stage.meta_rm) if whole else (stage,)
    return [one.compute.mesh for one in stages if one is not None]
