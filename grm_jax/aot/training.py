"""The programs of training: the updates of each stage, and GRPO's reference."""

from __future__ import annotations

from typing import Any

from jax.sharding import Mesh

from grm_jax.aot.arguments import (
    abstract_batch,
    abstract_rollouts,
    batch_ways,
    bytes_per_device,
    params_of,
    stored_model,
    trained_model,
)
from grm_jax.aot.flops import KEPT, forward_flops, head_size, training_flops
from grm_jax.aot.kernels import group_pairs, routed
from grm_jax.aot.work import Program, Work, lowered
from grm_jax.models.config import Config
from grm_jax.models.model import Model
from grm_jax.models.splash import Group
from grm_jax.objectives.config import GRPOLossConfig
from grm_jax.objectives.logprobs import chunk_columns
from grm_jax.sharding import TRAIN_RULES
from grm_jax.train.compute import ComputeConfig
from grm_jax.train.config import OptimizerConfig
from grm_jax.train.optimizer import make_optimizer, make_schedule
from grm_jax.train.policy_loss import make_scorer, policy_loss
from grm_jax.train.scorer import label_loss
from grm_jax.train.sft import sft_loss
from grm_jax.train.state import abstract_state, state_shardings
from grm_jax.train.step import SumLoss, check_batch, compile_step, make_step

CHUNK = 256  # tokens whose logits a device holds at once


def rft_step(config: Config, mesh: Mesh, work: Work) -> Program:
    """An update of RFT, or of any supervised stage."""
    model = trained_model(config)
    loss = sft_loss(model, chunk=CHUNK, remat=work.remat)
    return _step(model, loss, abstract_batch(mesh, work), mesh, work)


def meta_step(config: Config, mesh: Mesh, work: Work) -> Program:
    """An update of the meta RM."""
    model = trained_model(config).as_head("scalar")
    return _step(model, label_loss(model, remat=work.remat), abstract_batch(mesh, work), mesh, work)


def grpo_step(config: Config, mesh: Mesh, work: Work) -> Program:
    """An update of the policy; the frozen reference lies in memory beside it."""
    model = trained_model(config)
    loss = policy_loss(model, GRPOLossConfig(), on_policy=True, chunk=CHUNK, remat=work.remat)
    # In bf16, sharded as the weights.
    reference = bytes_per_device(stored_model(config), mesh, TRAIN_RULES)
    prompts, group, row = work.grouped()
    length = row.prompt + group * row.completion
    return _step(
        model,
        loss,
        abstract_rollouts(mesh, work),
        mesh,
        work,
        resident=reference,
        shape=(prompts, length, prompts * group * row.completion, row),
    )


# Rows, their tokens, how many of all have logits, whether rows are groups.
Shape = tuple[int, int, int, Group | None]


def _step(
    model: Model,
    loss: SumLoss,
    batch: Any,
    mesh: Mesh,
    work: Work,
    resident: int = 0,
    shape: Shape | None = None,
) -> Program:
    """An update as the trainer compiles it: weights and moments in f32, arithmetic in bf16."""
    schedule = make_schedule(OptimizerConfig(), 900)
    optimizer = make_optimizer(OptimizerConfig(), schedule, model.axes())
    places = state_shardings(model, optimizer, mesh)
    tokens = work.sequences * work.length
    rows, length, scored, group = shape or (work.sequences, work.length, tokens, None)
    parts = _microbatches(mesh, work, rows)
    step = make_step(loss, optimizer, schedule, microbatches=parts)
    head = KEPT * 2.0 * scored * head_size(model)
    trained = training_flops(model, rows, length, remat=work.remat, group=group)
    return Program(
        lowered(compile_step(step, places, mesh), abstract_state(model, optimizer, places), batch),
        mesh,
        tokens,
        trained + head,
        useful=3 * forward_flops(model, rows, length, logits=0, group=group) + head,
        trips=_chunks(mesh, rows // parts, scored // rows),
        resident=resident,
        pairs=group and group_pairs(length, group, model.spec.windows),
        routed=routed(model, mesh.shape["tensor"], rows * length // parts // batch_ways(mesh)),
    )


def grpo_score(config: Config, mesh: Mesh, work: Work) -> Program:
    """The reference's log-probabilities; the policy with its moments lies in memory beside them."""
    model = stored_model(config)
    prompts, group, row = work.grouped()
    parts = _microbatches(mesh, work, prompts)
    compute = ComputeConfig(microbatches=parts, logits_chunk=CHUNK, dtype="bfloat16")
    written = group * row.completion
    length = row.prompt + written
    return Program(
        lowered(
            make_scorer(model, compute),
            params_of(model, mesh, TRAIN_RULES),
            abstract_rollouts(mesh, work),
        ),
        mesh,
        work.sequences * work.length,
        forward_flops(model, prompts, length, logits=prompts * written, group=row),
        trips=_chunks(mesh, prompts // parts, written),
        pairs=group_pairs(length, row, model.spec.windows),
        routed=routed(model, mesh.shape["tensor"], length * prompts // parts // batch_ways(mesh)),
        resident=3 * bytes_per_device(trained_model(config), mesh, TRAIN_RULES),
    )


def _microbatches(mesh: Mesh, work: Work, rows: int) -> int:
    """Micro-batches of a step on so many rows, which none of them cuts."""
    parts = work.microbatches or max(rows // batch_ways(mesh), 1)
    check_batch(rows, parts, mesh, "sequences" if rows == work.sequences else "sequences / group")
    return parts


def _chunks(mesh: Mesh, rows: int, length: int) -> int:
    """Chunks in which the head takes a micro-batch, if every token counts."""
    return -(-length // chunk_columns(CHUNK, rows, length, mesh.size))
