"""One update of each stage on given tokens, as the trainer compiles it: the one place that knows
what a loss reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from grm_jax.bench.config import Stage
from grm_jax.data.pipeline import Batch
from grm_jax.mesh import MeshConfig
from grm_jax.metric_names import LOSS
from grm_jax.models.model import Model
from grm_jax.objectives.config import GRPOLossConfig
from grm_jax.processes import spread
from grm_jax.sharding import make_mesh
from grm_jax.train.config import OptimizerConfig
from grm_jax.train.memory import keep_freed_memory
from grm_jax.train.optimizer import make_optimizer, make_schedule
from grm_jax.train.policy_loss import policy_loss
from grm_jax.train.rollout import RolloutBatch
from grm_jax.train.sft import sft_loss
from grm_jax.train.state import placed_state, state_shardings
from grm_jax.train.step import SumLoss, batch_sharding, compile_step, make_step

CHUNK = 256  # positions whose logits are in memory at once
# TRL's defaults, so that the losses can be compared.
OPTIMIZER = OptimizerConfig(
    learning_rate=1e-6, schedule="constant", b2=0.999, weight_decay=0.0, clip_norm=None
)
LOSS_CONFIG = GRPOLossConfig(beta=0.04, advantage_std="sample")


@dataclass(frozen=True)
class Written:
    """What policies wrote: `prompts` [P, S], `completions` [P, G, T], `advantage` [P, G] and the
    reference's log-probabilities [P, G, T]."""

    prompts: np.ndarray
    completions: np.ndarray
    advantage: np.ndarray
    reference: np.ndarray

    def rows(self) -> np.ndarray:
        """[P x G, S + T]: each completion behind its prompt."""
        prompts = np.repeat(self.prompts, self.completions.shape[1], axis=0)
        return np.concatenate([prompts, self.completions.reshape(len(prompts), -1)], axis=1)


def draw_tokens(vocabulary: int, prompts: int, group: int, prompt: int, new: int) -> Written:
    """Random tokens and advantages, always the same."""
    rng = np.random.default_rng(7)
    reward = rng.standard_normal((prompts, group))
    spread = reward.std(axis=1, ddof=min(group - 1, 1), keepdims=True) + 1e-6
    return Written(
        rng.integers(10, vocabulary, (prompts, prompt), dtype=np.int32),
        rng.integers(10, vocabulary, (prompts, group, new), dtype=np.int32),
        ((reward - reward.mean(axis=1, keepdims=True)) / spread).astype(np.float32),
        rng.normal(-12.0, 0.1, (prompts, group, new)).astype(np.float32),
    )


def make_update(
    stage: Stage, model: Model, params: Any, written: Written, *, remat: bool
) -> Callable[[], dict[str, float]]:
    """A call that updates the weights once more and returns the metrics when that is done.

    Args:
        params: their memory is reused.
    """
    keep_freed_memory()
    schedule = make_schedule(OPTIMIZER, 1_000_000)
    optimizer = make_optimizer(OPTIMIZER, schedule, model.axes())
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    places = state_shardings(model, optimizer, mesh)
    loss, batch = _loss_and_batch(stage, model, written, remat)
    step = compile_step(make_step(loss, optimizer, schedule), places, mesh)
    with jax.set_mesh(mesh):
        state = placed_state(params, optimizer, places)
        batch = spread(batch, batch_sharding(mesh))

    def update() -> dict[str, float]:
        nonlocal state
        with jax.set_mesh(mesh):
            state, metrics = step(state, batch)
            jax.block_until_ready(state)
        return {name: float(metrics[name]) for name in (LOSS, "train/grad_norm")}

    return update


def _loss_and_batch(
    stage: Stage, model: Model, written: Written, remat: bool
) -> tuple[SumLoss, Any]:
    """The loss of a stage, and its batch on the host."""
    keep = "full" if remat else "none"
    if stage == "grpo":
        (prompts, size), completions = written.prompts.shape, written.completions.shape
        at = np.arange(size, dtype=np.int32)
        after = np.arange(size, size + completions[2], dtype=np.int32)
        zeros = np.zeros(completions, np.float32)
        batch = RolloutBatch(
            prompts=written.prompts,
            prompt_positions=np.broadcast_to(at, (prompts, size)),
            tokens=written.completions,
            positions=np.broadcast_to(after, completions),
            advantage=written.advantage,
            sampled_logprob=zeros,
            old_logprob=zeros,
            reference_logprob=written.reference,
        )
        return policy_loss(model, LOSS_CONFIG, on_policy=True, chunk=CHUNK, remat=keep), batch
    rows, first = written.rows(), written.prompts.shape[1] - 1
    count, length = rows.shape
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), rows.shape)
    learned = positions < length - 1
    batch = Batch(
        tokens=rows,
        targets=np.pad(rows[:, 1:], ((0, 0), (0, 1))),
        mask=learned if stage == "sft" else learned & (positions >= first),
        positions=positions,
        segments=np.ones(rows.shape, np.int32),
        too_long=np.zeros(count, np.int32),
    )
    return sft_loss(model, chunk=CHUNK, remat=keep), batch
