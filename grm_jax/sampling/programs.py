"""The sampling programs, compiled: what the sampler runs, and what `grm aot` looks at.

`decode` is compiled for each shape before its state exists, because the compiler chooses how the
state lies in memory: a TPU would otherwise copy all caches into the order that its loop prefers.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import jax
from jax.experimental.layout import Format, Layout
from jax.sharding import Mesh, NamedSharding

from grm_jax.models.model import Model
from grm_jax.sampling.generate import decode, prefill, start
from grm_jax.sampling.state import LOOP_AXES, Drawn, Prompts
from grm_jax.sharding import DECODE_RULES, spec_for

PREFILL = jax.jit(prefill, static_argnums=0)


def draw(
    model: Model,
    params: Any,
    prompts: Prompts,
    seed: Any,
    settings: tuple[Any, Any, Any],
    stop_ids: Any,
    *,
    max_new_tokens: int,
    mesh: Mesh | None = None,
) -> Drawn:
    """R samples of each of B prompts; returns at once with arrays to come.

    Args:
        params, prompts: placed on the mesh.
        seed: a uint32. settings: `Strategy.traced()`. stop_ids: [n] int32.
        mesh: that of `jax.set_mesh`, or None.
    """
    last, cache = PREFILL(model, params, prompts)
    begin = partial(start, model, max_new_tokens=max_new_tokens)
    state = jax.eval_shape(begin, last, prompts.active)
    words = (prompts.item, prompts.sample, seed, settings, stop_ids)
    shapes, tree = jax.tree.flatten(jax.tree.map(_shape, (params, cache, state, *words)))
    ready, program = _compiled(model, mesh, max_new_tokens, tuple(shapes), tree)
    state = program(params, cache, ready(last, prompts.active), *words)
    return Drawn(state.tokens, state.logprobs, state.lengths, state.done)


@lru_cache
def _compiled(
    model: Model, mesh: Mesh | None, max_new_tokens: int, shapes: tuple, tree: Any
) -> tuple[Any, Any]:
    """What makes the state as `decode` wants it, and `decode`, once per shape."""
    program = lower_decode(model, mesh, *jax.tree.unflatten(tree, shapes)).compile()
    begin = partial(start, model, max_new_tokens=max_new_tokens)
    return jax.jit(begin, out_shardings=program.input_formats[0][2]), program


def lower_decode(model: Model, mesh: Mesh | None, *arguments: Any) -> Any:
    """`decode` for arguments of these shapes; compiled, it says in `input_formats` how the state is
    to lie in memory."""

    def automatic(axes: Any) -> Format:
        sharding = None if mesh is None else NamedSharding(mesh, spec_for(axes, DECODE_RULES))
        return Format(Layout.AUTO, sharding)

    slots = jax.tree.map(automatic, LOOP_AXES, is_leaf=lambda node: isinstance(node, tuple))
    jitted = jax.jit(
        decode,
        static_argnums=0,
        donate_argnames="state",
        in_shardings=(None, None, slots, *(None,) * (len(arguments) - 3)),
        out_shardings=slots,
    )
    return jitted.lower(model, *arguments)


def _shape(x: Any) -> jax.ShapeDtypeStruct:
    """An argument without its numbers; where it lies matters only on a mesh."""
    sharding = getattr(x, "sharding", None)
    sharding = sharding if isinstance(sharding, NamedSharding) else None
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
