"""What of a model a stage trains: all its weights, or an adapter beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp

from grm_jax.judging.folder import model_path
from grm_jax.models import hf_folder
from grm_jax.models.adapted import is_adapted, merged
from grm_jax.models.adapter import SCORE, Adapter
from grm_jax.models.adapter_files import read_adapter
from grm_jax.models.model import Model
from grm_jax.models.quantized import quantized
from grm_jax.places import Where
from grm_jax.sharding import TRAIN_RULES, shardings_of
from grm_jax.train.checkpoint import load_params
from grm_jax.train.config import AdapterConfig
from grm_jax.train.run import Run
from grm_jax.train.state import Weights
from grm_jax.train.step import Join, trained_alone

_MERGED = jax.jit(merged, static_argnums=1)


@dataclass(frozen=True)
class Part:
    """What is trained, and what is not.

    Attributes:
        weights: the shapes of what is trained.
        begin: makes it as it is before the first step.
        frozen: makes the rest, and says where it lies; None where there is none.
        join: of both the model's parameters.
    """

    weights: Weights
    begin: Callable[[], Any]
    frozen: Callable[[], tuple[Any, Any]]
    join: Join


def adapter_of(config: AdapterConfig, model: Model) -> Adapter | None:
    """The adapter that is trained; None where the model is.

    Raises:
        ValueError: the model has no matrix of that name, or not so many layers.
    """
    if not config.rank:
        return None
    return Adapter(model, config.rank, config.alpha, config.targets, config.layers)


def trained_part(
    run: Run, model: Model, make_params: Callable[[], Any], before: Where | None = None
) -> Part:
    """What a run trains of a model.

    Args:
        make_params: the model's weights; with an adapter those that stay, and a new head.
        before: checkpoints of an adapter to begin with; otherwise the one in the run's start, or
            one that changes nothing.
    """
    adapter = adapter_of(run.config.adapter, model)
    if adapter is None:
        return Part(model, make_params, lambda: (None, None), trained_alone)

    @cache
    def whole() -> Any:
        """What stays, and the head."""
        params = make_params()
        return quantized(params) if run.config.adapter.weights == "int8" else params

    def frozen() -> tuple[Any, Any]:
        weights = {name: leaf for name, leaf in whole().items() if name != SCORE}
        return weights, jax.tree.map(lambda leaf: leaf.sharding, weights)

    def begin() -> Any:
        shardings = shardings_of(adapter.axes(), run.mesh, TRAIN_RULES)
        if before is not None:
            place = lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)  # noqa: E731
            return load_params(before, jax.tree.map(place, adapter.abstract(), shardings))
        start = model_path(run.config.start)
        if hf_folder.is_adapter(start):
            trained = read_adapter(start, adapter)
        else:
            trained = adapter.init(jax.random.key(run.seed_of("adapter")))
        if model.head == "scalar":
            trained |= {SCORE: whole()[SCORE].astype(jnp.float32)}
        return jax.jit(lambda tree: tree, out_shardings=shardings)(trained)

    return Part(adapter, begin, frozen, adapter.join)


def for_sampling(params: Any, dtype: str) -> Any:
    """Parameters without adapted matrices: these are merged, in `dtype`, into new arrays, as are
    those in int8."""
    if not any(map(is_adapted, jax.tree.leaves(params, is_leaf=is_adapted))):
        return params
    return _MERGED(params, dtype)
