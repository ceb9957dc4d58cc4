"""A small run of GRPO, and its policy."""

from pathlib import Path
from typing import Any

import jax

from grm_jax.data.config import ItemsConfig
from grm_jax.mesh import MeshConfig
from grm_jax.train.compute import ComputeConfig
from grm_jax.train.config import CheckpointConfig, OptimizerConfig, RunConfig
from grm_jax.train.grpo import Policy
from grm_jax.train.stages.grpo import FilterConfig, GRPOConfig
from tests.train.pairs import Pair, change, opened

GROUP = 4


def small_grpo(folder: Path) -> Pair:
    """A run of three steps with four prompts each."""
    stage = GRPOConfig(
        items=(ItemsConfig(limit=24),),
        filter=FilterConfig(n=0),
        group=GROUP,
        per_step=16,
        steps=3,
        slots=16,
        optimizer=OptimizerConfig(3e-4, schedule="constant"),
        samples_every=2,
        compute=ComputeConfig(mesh=MeshConfig(1, 1, 1)),
        checkpoint=CheckpointConfig(every=2),
    )
    return Pair(RunConfig(str(folder)), stage)


def make_policy(cfg: Pair, **changes: Any) -> Policy:
    """The policy of a run with other settings, without its folder."""
    other = change(cfg, **changes)
    run = opened(other)
    with jax.set_mesh(run.mesh):
        return Policy(run, other.cfg)
