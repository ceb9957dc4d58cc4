"""The programs of judging: prompts in, tokens out, and the meta RM's ratings."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from grm_jax.aot.arguments import (
    batch_ways,
    engine_state,
    params_of,
    pieces_of,
    rows_of,
    stored_model,
)
from grm_jax.aot.flops import decode_flops, forward_flops
from grm_jax.aot.kernels import group_pairs, routed
from grm_jax.aot.work import Program, Work, lowered
from grm_jax.judging.rater import rate
from grm_jax.models.config import Config
from grm_jax.models.splash import Group
from grm_jax.sampling.generate import extend
from grm_jax.sampling.programs import advance
from grm_jax.sampling.state import (
    Prompts,
    Queue,
    empty_prompts,
    empty_slots,
    prompt_axes,
    slot_axes,
)
from grm_jax.sharding import DECODE_RULES

STOPS = 2
PIECE = 512  # tokens of a prompt that are prefilled at a time


def meta_score(config: Config, mesh: Mesh, work: Work) -> Program:
    """The meta RM's ratings: a row per sequence, of which all but the last token is the prompt; or
    in groups that share their prompt."""
    model = stored_model(config).as_head("scalar")
    prompts, group, row = work.sequences, 1, Group(work.length - 1, 1)
    if work.group > 1:
        prompts, group, row = work.grouped()
    shared = row if group > 1 else None
    length = row.prompt + group * row.completion
    front, behind = (
        rows_of(mesh, shape, jnp.int32, DECODE_RULES)
        for shape in ((prompts, row.prompt), (prompts, group, row.completion))
    )
    return Program(
        lowered(
            jax.jit(rate, static_argnums=0),
            model,
            params_of(model, mesh, DECODE_RULES),
            front,
            front,
            behind,
            behind,
        ),
        mesh,
        work.sequences * work.length,
        forward_flops(model, prompts, length, logits=work.sequences, group=shared),
        pairs=shared and group_pairs(length, shared, model.spec.windows),
        routed=routed(model, mesh.shape["tensor"], prompts * length // batch_ways(mesh)),
    )


def prefill(config: Config, mesh: Mesh, work: Work) -> Program:
    """All prompts into the engine's cache, piece by piece."""
    model, (lanes, rows, _) = stored_model(config), _lanes(mesh, work)
    prompts = engine_state(
        partial(empty_prompts, model, lanes, rows, work.length), prompt_axes(model), mesh
    )
    piece = min(PIECE, work.length)
    pieces = -(-work.length // piece) * rows

    def run(params: Any, prompts: Prompts, tokens: Any, where: Any) -> Any:
        """The engine's program for every piece of every prompt, one after the other."""
        return jax.lax.map(lambda x: extend(model, params, prompts, x[0], *x[1]), (tokens, where))

    return Program(
        lowered(
            jax.jit(run),
            params_of(model, mesh, DECODE_RULES),
            prompts,
            pieces_of(mesh, (pieces, lanes, piece), jnp.int32),
            (pieces_of(mesh, (pieces, lanes), jnp.int32),) * 3,
        ),
        mesh,
        lanes * rows * work.length,
        forward_flops(model, lanes * rows, work.length, logits=0),
        routed=routed(model, mesh.shape["tensor"], piece),
    )


def decode(config: Config, mesh: Mesh, work: Work) -> Program:
    """The engine's decoding program, for as many tokens as a sample may have."""
    model, (lanes, rows, places) = stored_model(config), _lanes(mesh, work)
    slots = rows * places
    everywhere = NamedSharding(mesh, PartitionSpec())

    def scalar(dtype: Any, *shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=everywhere)

    def waiting(dtype: Any) -> Any:
        return rows_of(mesh, (lanes, slots), dtype, DECODE_RULES)

    numbers, names, flags = waiting(jnp.int32), waiting(jnp.uint32), waiting(jnp.bool_)
    tail = rows_of(mesh, (lanes,), jnp.int32, DECODE_RULES)
    arguments = (
        params_of(model, mesh, DECODE_RULES),
        engine_state(
            partial(empty_prompts, model, lanes, rows, work.length), prompt_axes(model), mesh
        ),
        engine_state(partial(empty_slots, model, lanes, slots, work.new), slot_axes(model), mesh),
        Queue(numbers, numbers, names, names, flags, flags, tail),
        scalar(jnp.uint32),
        (scalar(jnp.float32), scalar(jnp.int32), scalar(jnp.float32)),
        scalar(jnp.int32, STOPS),
        scalar(jnp.int32),
    )
    return Program(
        lambda: advance(platform="tpu").lower(model, *arguments, steps=work.new, places=places),
        mesh,
        lanes * slots * work.new,
        decode_flops(model, lanes * slots, work.length, work.new),
        trips=work.new,
        routed=routed(model, mesh.shape["tensor"], slots),
    )


def _lanes(mesh: Mesh, work: Work) -> tuple[int, int, int]:
    """Lanes, prompts of a lane, and samples of a prompt, for an engine of so many slots.

    Raises:
        ValueError: the lanes do not divide the samples.
    """
    lanes = batch_ways(mesh)
    if work.sequences % lanes:
        raise ValueError(
            f"sequences is {work.sequences}, but the mesh splits the batch over {lanes} devices: "
            f"give a multiple of {lanes}."
        )
    slots = work.sequences // lanes
    places = min(work.group or slots, slots)
    return lanes, -(-slots // places), places
