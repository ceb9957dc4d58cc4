"""A model with its optimiser on a mesh: how its state begins, and the compiled update."""

from __future__ import annotations

from typing import Any

import jax
from jax.sharding import Mesh

from grm_jax.models.model import Model
from grm_jax.train.compute import ComputeConfig
from grm_jax.train.optimizer import OptimizerConfig, make_optimizer, make_schedule
from grm_jax.train.state import TrainState, abstract_state, new_state, state_shardings
from grm_jax.train.step import Step, SumLoss, compile_step, make_step


class Trainer:
    """What updates a model's weights: `update(state, batch) -> (state, metrics)`.

    updates: how many there will be, for the learning-rate schedule.
    """

    def __init__(
        self,
        model: Model,
        loss: SumLoss,
        optimizer: OptimizerConfig,
        updates: int,
        mesh: Mesh,
        compute: ComputeConfig,
    ):
        schedule = make_schedule(optimizer, updates)
        self._model = model
        self._optimizer = make_optimizer(optimizer, schedule, model.axes())
        self._shardings = state_shardings(model, self._optimizer, mesh)
        step = make_step(loss, self._optimizer, schedule, microbatches=compute.microbatches)
        self.update: Step = compile_step(step, self._shardings, mesh)

    def begin(self, params: Any) -> TrainState:
        """The state before the first update; the memory of `params` is reused."""
        new = lambda p: new_state(p, self._optimizer)  # noqa: E731
        return jax.jit(new, out_shardings=self._shardings, donate_argnums=0)(params)

    def abstract(self) -> TrainState:
        """The state's shapes, dtypes and shardings, onto which a checkpoint is read."""
        return abstract_state(self._model, self._optimizer, self._shardings)
