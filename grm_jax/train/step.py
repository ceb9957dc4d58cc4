"""One update: a pure function of (state, batch), the same on a laptop and on a pod."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding

from grm_jax.metric_names import GATES, LOSS, SKIPPED
from grm_jax.objectives.routing import gate_metrics
from grm_jax.sharding import TRAIN_RULES, Rules, spec_for
from grm_jax.train.state import TrainState

Metrics = dict[str, Any]
# loss(params, batch) -> (summed loss, how many it is a sum over, further sums to report).
SumLoss = Callable[[Any, Any], tuple[jax.Array, jax.Array, Metrics]]
Step = Callable[[TrainState, Any], tuple[TrainState, Metrics]]
# join(frozen, trained) -> the model's parameters.
Join = Callable[[Any, Any], Any]


def trained_alone(frozen: Any, trained: Any) -> Any:
    """The join where all parameters are trained."""
    return trained


def make_step(
    loss: SumLoss,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    *,
    microbatches: int = 1,
    join: Join = trained_alone,
) -> Step:
    """step(state, batch) -> (state, metrics) for the loss `sum / count` over the whole batch.

    A loss gives sums, so that micro-batches (and packed rows) add up to exactly the loss and the
    gradient of the batch. Metrics are device scalars: `train/loss`, `train/grad_norm` (before
    clipping), `train/learning_rate`, `train/skipped`, the loss's own sums, and of a model with
    experts what `gate_metrics` makes of them.

    A step whose loss or gradient is not finite is skipped: weights, optimiser and `state.step`
    stay what they were, and `train/skipped` is 1.

    Args:
        join: makes of the state's frozen and trained weights the parameters that the loss is given;
            the gradient is that of the trained ones.
    """

    def step(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        def value_and_grad(params: Any, batch: Any) -> tuple:
            def total(params: Any) -> tuple[jax.Array, tuple[jax.Array, Metrics]]:
                value, count, sums = loss(join(state.frozen, params), batch)
                return value, (count, sums)

            return jax.value_and_grad(total, has_aux=True)(params)

        rows = jax.tree.leaves(batch)[0].shape[0]
        # optax's micro_grad would make one gradient per row (it is for clipping each); this sums
        # over micro-batches only.
        accumulated = optax.microbatching.microbatch(
            value_and_grad,
            argnums=1,
            microbatch_size=None if microbatches == 1 else rows // microbatches,
            accumulator=optax.microbatching.AccumulationType.SUM,
        )
        (value, (count, sums)), grads = accumulated(state.params, batch)
        # A batch without a target has the sum 0, which must give 0 and not nan.
        count = jnp.maximum(count, 1)
        grads = jax.tree.map(lambda g: g / count, grads)
        gates = sums.pop(GATES, None)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        mean, norm = value / count, optax.tree.norm(grads)
        good = jnp.isfinite(mean) & jnp.isfinite(norm)
        metrics = {
            LOSS: mean,
            "train/grad_norm": norm,
            "train/learning_rate": jnp.asarray(schedule(state.step), jnp.float32),
            SKIPPED: 1.0 - good,
            **sums,
            **({} if gates is None else gate_metrics(gates, count)),
        }
        # Chosen on the device: the host need not know before it starts the next step.
        before = TrainState(state.step, state.params, state.opt_state)
        after = TrainState(state.step + 1, params, opt_state)
        after = jax.tree.map(lambda new, old: jnp.where(good, new, old), after, before)
        return replace(after, frozen=state.frozen), metrics

    return step


def batch_sharding(mesh: Mesh, rules: Rules = TRAIN_RULES) -> NamedSharding:
    """Rows over the data axes, everything else whole."""
    return NamedSharding(mesh, spec_for(("batch",), rules))


def check_batch(
    sequences: int, microbatches: int, mesh: Mesh, name: str = "batch.sequences"
) -> None:
    """Refuses a batch that the mesh or the micro-batches do not divide.

    name: what a person calls the rows.

    Raises:
        ValueError: names the numbers and what would fit.
    """
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    if microbatches < 1 or sequences % (microbatches * ways):
        raise ValueError(
            f"{name} is {sequences}, to be cut into {microbatches} micro-batches over "
            f"data x fsdp = {ways} devices: it must be a multiple of "
            f"{max(microbatches, 1) * ways}, and microbatches 1 or more."
        )


def compile_step(step: Step, shardings: TrainState, mesh: Mesh) -> Step:
    """`jax.jit` of a step with explicit shardings; the old state's memory is reused."""
    return jax.jit(
        step,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, None),
        donate_argnums=0,
    )
