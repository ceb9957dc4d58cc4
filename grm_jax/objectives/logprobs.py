"""Log-probabilities of given tokens, and losses made of them, without ever holding all the logits.

A row of 4096 tokens over Gemma-2's vocabulary is 4 GiB of f32 logits, and as much again for their
gradient: the memory peak of training. So tokens are taken in chunks, and a chunk's logits live in
one turn of a loop. A loss that is a sum over tokens has its gradient taken in that same turn, so
that no logits are made twice. Tokens that do not count come last, and are never looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from grm_jax.models.model import Model
from grm_jax.models.transformer import head_table
from grm_jax.sharding import constrain


class TokenLogprobs(NamedTuple):
    """What a model gives to the tokens that came: log p(target), the entropy of p (nats), and
    log p(target) at temperature 1, where that is another one."""

    logprob: Array
    entropy: Array | None
    unscaled: Array | None


# objective(log-probabilities, data) -> (losses, what is reported): all of them arrays [B, C].
Objective = Callable[[TokenLogprobs, Any], tuple[Array, Any]]


def token_logprobs(
    model: Model,
    params: dict,
    hidden: Float[Array, "B T D"],
    targets: Int[Array, "B T"],
    mask: Bool[Array, "B T"] | None = None,
    *,
    chunk: int,
    entropy: bool = False,
    temperature: float = 1.0,
) -> TokenLogprobs:
    """log p(targets[b, t] | hidden[b, t]) in f32, [B, T], 0 where the mask is False.

    Arguments are those of `token_loss`, which is what has a gradient; this has none.
    """
    if mask is None:
        mask = jnp.ones(targets.shape, bool)
    return token_loss(
        model,
        params,
        hidden,
        targets,
        mask,
        lambda scored, _: (jnp.zeros_like(scored.logprob), scored),
        (),
        chunk=chunk,
        entropy=entropy,
        temperature=temperature,
    )[1]


def token_loss(
    model: Model,
    params: dict,
    hidden: Float[Array, "B T D"],
    targets: Int[Array, "B T"],
    mask: Bool[Array, "B T"],
    objective: Objective,
    data: Any,
    *,
    chunk: int,
    entropy: bool = False,
    temperature: float = 1.0,
) -> tuple[Float[Array, ""], Any]:
    """The sum of an objective over the tokens that count, and what it reports of each, [B, T].

    The sum has a gradient with respect to `hidden` and the table of logits in `params`; reports
    have none. They are 0 where the mask is False, whatever stands there.

    Args:
        model: gives the logits (the final soft cap is inside them).
        params: its weights.
        hidden: states after the final norm, so hidden[:, t] predicts targets[:, t].
        targets: token ids; where the mask is False any valid id will do.
        mask: which tokens count.
        objective: of each token by itself. It may hold no arrays but those of `data`.
        data: arrays [B, T] that it is given beside the log-probabilities.
        chunk: how many tokens' logits a device holds at the same time. On a mesh, where devices
            share each token's logits, so many times as many tokens are taken together.
        entropy: also -sum p log p of each token; otherwise None.
        temperature: what p divides the logits by: that at which the tokens were drawn.

    Raises:
        ValueError: chunk is not positive.
    """
    devices = max(jax.sharding.get_abstract_mesh().size, 1)
    rows, length = mask.shape
    columns = chunk_columns(chunk, rows, length, devices)

    def read(table: Array, hidden: Array, seen: Array, given: Any) -> tuple[Array, Any]:
        targets, data = given
        logits = model.logits({"embed": table, "head": table}, hidden)
        # Padding may hold anything, and exp of anything may overflow into the gradient.
        scored, data = jax.tree.map(
            lambda x: jnp.where(seen, x, 0), (_score(logits, targets, entropy, temperature), data)
        )
        losses, report = objective(scored, data)
        return jnp.sum(jnp.where(seen, losses, 0.0)), report

    with jax.named_scope("token_loss"):
        table = head_table(model.spec, params)
        return _sum(read, columns, table, hidden, mask, (targets, data))


def chunk_columns(chunk: int, rows: int, length: int, devices: int) -> int:
    """How many positions of every row are taken at once.

    Raises:
        ValueError: chunk is not positive.
    """
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}; it counts tokens: give 1 or more.")
    return min(max(chunk * devices // rows, 1), length)


def _score(logits: Array, targets: Array, entropy: bool, temperature: float) -> TokenLogprobs:
    # A sum over a comparison, not a gather: its gradient is no scatter, and it stays local where
    # the vocabulary is sharded.
    here = targets[..., None] == jnp.arange(logits.shape[-1])

    def score(logits: Array) -> tuple[Array, Array]:
        log_z = jax.nn.logsumexp(logits, axis=-1)
        return jnp.sum(jnp.where(here, logits, 0.0), axis=-1) - log_z, log_z

    unscaled = None
    if temperature != 1:
        unscaled = jax.lax.stop_gradient(score(logits)[0])
        logits = logits / temperature
    logprob, log_z = score(logits)
    if not entropy:
        return TokenLogprobs(logprob, None, unscaled)
    p = jnp.exp(logits - log_z[..., None])
    return TokenLogprobs(logprob, log_z - jnp.sum(p * logits, axis=-1), unscaled)


# read(table, hidden [B, C, D], mask [B, C], given) -> (sum, reports).
Read = Callable[[Array, Array, Array, Any], tuple[Array, Any]]


def _plain_sum(
    read: Read, columns: int, table: Array, hidden: Array, mask: Array, given: Any
) -> tuple[Array, Any]:
    """The sum and the reports of all chunks of so many columns."""

    def turn(total: Array, part: Array, seen: Array, given: Any) -> tuple[Array, Array, Any]:
        value, report = read(table, part, seen, given)
        return total + value, jnp.zeros((*part.shape[:2], 0)), report

    total, _, report = _loop(turn, jnp.float32(0), columns, hidden, mask, given)
    return total, report


def _sum_forward(
    read: Read, columns: int, table: Array, hidden: Array, mask: Array, given: Any
) -> tuple[tuple[Array, Any], tuple[Array, Array]]:
    graded = jax.value_and_grad(read, argnums=(0, 1), has_aux=True)

    def turn(
        carry: tuple[Array, Array], part: Array, seen: Array, given: Any
    ) -> tuple[tuple[Array, Array], Array, Any]:
        (value, report), (slope, out) = graded(table, part, seen, given)
        return (carry[0] + value, carry[1] + slope), out, report

    begin = (jnp.float32(0), jnp.zeros_like(table))
    (total, d_table), d_hidden, report = _loop(turn, begin, columns, hidden, mask, given)
    return (total, report), (d_table, d_hidden)


def _sum_backward(
    read: Read, columns: int, slopes: tuple[Array, Array], cotangents: tuple[Array, Any]
) -> tuple[Array, Array, None, None]:
    d_table, d_hidden = slopes
    slope = cotangents[0]
    return slope * d_table, slope.astype(d_hidden.dtype) * d_hidden, None, None


_sum = jax.custom_vjp(_plain_sum, nondiff_argnums=(0, 1))
_sum.defvjp(_sum_forward, _sum_backward)


def _loop(
    turn: Callable[..., tuple[Any, Array, Any]],
    carry: Any,
    columns: int,
    hidden: Float[Array, "B T D"],
    mask: Bool[Array, "B T"],
    given: Any,
) -> tuple[Any, Array, Any]:
    """turn(carry, hidden, mask, given) -> (carry, outputs [B, C, ..], reports [B, C]) of chunks.

    Returns:
        The last carry; the outputs and the reports in the place of their tokens, else 0.
    """
    length = hidden.shape[1]
    chunks = -(-length // columns)
    # Those that count come first in every row, so that chunks without any are all at the end.
    order = jnp.argsort(~mask, axis=1, stable=True)
    place = jnp.argsort(order, axis=1)
    count = mask.sum(axis=1)
    order = jnp.pad(order, ((0, 0), (0, chunks * columns - length)))

    def take(index: Array) -> tuple[Array, Array, Any]:
        at = jax.lax.dynamic_slice_in_dim(order, index * columns, columns, axis=1)
        seen = index * columns + jnp.arange(columns) < count[:, None]
        part = jnp.take_along_axis(hidden, at[..., None], axis=1)
        part = jnp.where(seen[..., None], part, 0)  # whatever stands on padding
        return part, seen, jax.tree.map(lambda x: jnp.take_along_axis(x, at, axis=1), given)

    shapes = jax.eval_shape(lambda: turn(carry, *take(jnp.int32(0)))[1:])
    zeros = jax.tree.map(
        lambda x: jnp.zeros((x.shape[0], chunks * columns, *x.shape[2:]), x.dtype), shapes
    )

    def body(index: Array, state: tuple[Any, Any]) -> tuple[Any, Any]:
        carry, kept = state
        carry, *found = turn(carry, *take(index))
        write = partial(jax.lax.dynamic_update_slice_in_dim, start_index=index * columns, axis=1)
        return carry, jax.tree.map(write, kept, tuple(found))

    turns = -(-jnp.max(count) // columns)
    carry, kept = jax.lax.fori_loop(0, turns, body, (carry, zeros))

    def back(x: Array) -> Array:
        index, known = place, mask
        if x.ndim == 3:
            index, known = place[..., None], mask[..., None]
        x = jnp.where(known, jnp.take_along_axis(x, index, axis=1), 0)
        return constrain(x, ("batch", *(None,) * (x.ndim - 1)))

    return carry, *jax.tree.map(back, kept)
