"""The programs of training and judging on abstract arguments: all that there is to compile.

Each is the very function that the trainer or the sampler runs, under the shardings that it uses,
on shapes instead of arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from grm_jax.aot.config import PROGRAMS
from grm_jax.aot.flops import KEPT, decode_flops, forward_flops, head_size, training_flops
from grm_jax.aot.kernels import Pairs, group_pairs
from grm_jax.data.pipeline import Batch
from grm_jax.judging.rater import rate
from grm_jax.mesh import MeshConfig
from grm_jax.models.config import Config, Remat
from grm_jax.models.model import Model
from grm_jax.models.spec import Experts
from grm_jax.models.splash import Group
from grm_jax.objectives.config import GRPOLossConfig
from grm_jax.objectives.logprobs import chunk_columns
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
from grm_jax.sharding import (
    DECODE_RULES,
    TRAIN_RULES,
    Rules,
    check_divisible,
    make_mesh,
    shardings_of,
    spec_for,
)
from grm_jax.train.compute import ComputeConfig
from grm_jax.train.config import OptimizerConfig
from grm_jax.train.optimizer import make_optimizer, make_schedule
from grm_jax.train.policy_loss import make_scorer, policy_loss
from grm_jax.train.rollout import RolloutBatch
from grm_jax.train.scorer import label_loss
from grm_jax.train.sft import sft_loss
from grm_jax.train.state import abstract_state, state_shardings
from grm_jax.train.step import SumLoss, batch_sharding, check_batch, compile_step, make_step

CHUNK = 256  # tokens whose logits a device holds at once
STOPS = 2
PIECE = 512  # tokens of a prompt that are prefilled at a time
GROUP = 4  # G of the paper


@dataclass(frozen=True)
class Work:
    """How much one run of a program does, over all devices.

    Args:
        sequences: of one run; of prefill and decode: samples that are drawn at once.
        length: tokens of a sequence; of prefill and decode: of a prompt.
        new: tokens that decode draws per sample; so many of the sequences of GRPO, and of
            meta-score in groups, (half of them at most) stand behind the prompt.
        group: samples of one prompt; 0: the paper's 4 of GRPO, 1 of meta-score, and of prefill and
            decode as many as there are.
        microbatches: parts of a step; 0: so many that a device has one row, or of GRPO one prompt
            with its sequences, at a time.
        remat: what a step computes again to save memory, see `ComputeConfig`.
    """

    sequences: int
    length: int = 4096
    new: int = 1024
    group: int = 0
    microbatches: int = 0
    remat: Remat = "full"

    def __post_init__(self) -> None:
        for name in ("sequences", "length", "new"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more.")
        for name in ("group", "microbatches"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give 0 (by itself) or more.")

    def grouped(self) -> tuple[int, int, Group]:
        """Of groups: prompts, sequences of each, and the tokens of both parts.

        Raises:
            ValueError: the sequences are not so many groups.
        """
        group = self.group or GROUP
        if self.sequences % group:
            raise ValueError(
                f"sequences is {self.sequences}, in groups of {group}: give a multiple of it."
            )
        new = min(self.new, self.length // 2)
        return self.sequences // group, group, Group(self.length - new, new)


@dataclass(frozen=True)
class Program:
    """Something to compile, and what it is about.

    Attributes:
        lower: traces it for the devices of the mesh, which must be set; `.compile()` what it gives.
        trips: how often a loop runs whose count the program itself does not say.
        resident: bytes per device that lie in memory beside it while it runs.
        tokens: tokens that one run trains on, scores or draws, over all devices.
        flops: the analytic count of one run over all devices, see `flops`.
        pairs: of query and key in a row, by attention kernel, where rows are groups.
        useful: those of them that are not made a second time to save memory; 0: all.
    """

    lower: Callable[[], Any]
    mesh: Mesh
    tokens: int
    flops: float
    useful: float = 0.0
    trips: int = 1
    resident: int = 0
    pairs: Pairs | None = None


def build(
    name: str,
    config: Config,
    devices: list[Any],
    work: Work | None = None,
    shape: MeshConfig | None = None,
) -> Program:
    """The program of this name for a model of this size.

    Args:
        name: one of `PROGRAMS`.
        work: by default the paper's batch, 4,096 tokens, k = 32.
        shape: of the mesh; by default `train_mesh` or `decode_mesh`.

    Raises:
        ValueError: no such program; the mesh does not divide the model or the sequences.
    """
    if name not in PROGRAMS:
        raise ValueError(f"program is {name!r}; the programs are {', '.join(PROGRAMS)}.")
    sequences, training = PROGRAMS[name]
    work = work or Work(sequences)
    if shape is None:
        slices = len({getattr(device, "slice_index", 0) for device in devices})
        whole = work.grouped()[0] if name.startswith("grpo") else work.sequences
        count, rows = len(devices) // slices, whole // slices
        one = train_mesh(config, count, rows) if training else decode_mesh(config, count)
        shape = replace(one, data=slices * one.data)
    return _MAKE[name](config, make_mesh(shape, devices), work)


def train_mesh(config: Config, devices: int, sequences: int) -> MeshConfig:
    """As many ways to split weights and sequences (fsdp) as fit; the rest to `data` or `tensor`.

    Raises:
        ValueError: nothing divides.
    """
    sizes = [n for n in range(devices, 0, -1) if devices % n == 0 and config.embed_dim % n == 0]
    for fsdp in sizes:
        if sequences % devices == 0:
            return MeshConfig(devices // fsdp, fsdp, 1)
        if sequences % fsdp == 0 and _kv_heads(config) % (devices // fsdp) == 0:
            return MeshConfig(1, fsdp, devices // fsdp)
    raise ValueError(
        f"{sequences} sequences and a model dimension of {config.embed_dim} cannot be split over "
        f"{devices} devices: give sequences, or mesh.data, mesh.fsdp and mesh.tensor."
    )


def decode_mesh(config: Config, devices: int) -> MeshConfig:
    """Weights over as many devices as divide the key-value heads, prompts over the rest."""
    heads = _kv_heads(config)
    tensor = next(n for n in range(devices, 0, -1) if devices % n == heads % n == 0)
    return MeshConfig(devices // tensor, 1, tensor)


def _kv_heads(config: Config) -> int:
    """What divides the key-value heads of every layer, and its experts."""
    sizes = [layer.attention.mesh_heads for layer in config.spec.layers]
    sizes += [x.mlp.count for x in config.spec.layers if isinstance(x.mlp, Experts)]
    return math.gcd(*sizes)


def _rft_step(config: Config, mesh: Mesh, work: Work) -> Program:
    model = _trained(config)
    loss = sft_loss(model, chunk=CHUNK, remat=work.remat)
    return _step(model, loss, _batch(mesh, work), mesh, work)


def _meta_step(config: Config, mesh: Mesh, work: Work) -> Program:
    model = _trained(config).as_head("scalar")
    return _step(model, label_loss(model, remat=work.remat), _batch(mesh, work), mesh, work)


def _grpo_step(config: Config, mesh: Mesh, work: Work) -> Program:
    model = _trained(config)
    loss = policy_loss(model, GRPOLossConfig(), on_policy=True, chunk=CHUNK, remat=work.remat)
    # The frozen reference stays in memory beside the update: bf16, sharded as the weights.
    reference = _size(_stored(config), mesh, TRAIN_RULES)
    prompts, group, row = work.grouped()
    length = row.prompt + group * row.completion
    return _step(
        model,
        loss,
        _rollouts(mesh, work),
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
    parts = _parts(mesh, work, rows)
    step = make_step(loss, optimizer, schedule, microbatches=parts)
    head = KEPT * 2.0 * scored * head_size(model)
    trained = training_flops(model, rows, length, remat=work.remat, group=group)
    return Program(
        _jitted(compile_step(step, places, mesh), abstract_state(model, optimizer, places), batch),
        mesh,
        tokens,
        trained + head,
        useful=3 * forward_flops(model, rows, length, logits=0, group=group) + head,
        trips=_chunks(mesh, rows // parts, scored // rows),
        resident=resident,
        pairs=group and group_pairs(length, group, _windows(model)),
    )


def _grpo_score(config: Config, mesh: Mesh, work: Work) -> Program:
    """The reference's log-probabilities; the policy with its moments lies beside."""
    model = _stored(config)
    prompts, group, row = work.grouped()
    parts = _parts(mesh, work, prompts)
    compute = ComputeConfig(microbatches=parts, logits_chunk=CHUNK, dtype="bfloat16")
    written = group * row.completion
    return Program(
        _jitted(
            make_scorer(model, compute), _params(model, mesh, TRAIN_RULES), _rollouts(mesh, work)
        ),
        mesh,
        work.sequences * work.length,
        forward_flops(model, prompts, row.prompt + written, logits=prompts * written, group=row),
        trips=_chunks(mesh, prompts // parts, written),
        pairs=group_pairs(row.prompt + written, row, _windows(model)),
        resident=3 * _size(_trained(config), mesh, TRAIN_RULES),
    )


def _windows(model: Model) -> tuple[int | None, ...]:
    """The windows that layers have, each once; none comes last."""
    found = set(model.spec.windows)
    return tuple(sorted(found, key=lambda window: window or math.inf))


def _chunks(mesh: Mesh, rows: int, length: int) -> int:
    """In how many chunks the head takes a micro-batch where every token counts."""
    return -(-length // chunk_columns(CHUNK, rows, length, mesh.size))


def _meta_score(config: Config, mesh: Mesh, work: Work) -> Program:
    """Sequences in rows of their own, each but the last place its prompt; or in groups."""
    model = _stored(config).as_head("scalar")
    prompts, group, row = work.sequences, 1, Group(work.length - 1, 1)
    if work.group > 1:
        prompts, group, row = work.grouped()
    shared = row if group > 1 else None
    length = row.prompt + group * row.completion
    front, behind = (
        _array(mesh, shape, jnp.int32, DECODE_RULES)
        for shape in ((prompts, row.prompt), (prompts, group, row.completion))
    )
    return Program(
        _jitted(
            jax.jit(rate, static_argnums=0),
            model,
            _params(model, mesh, DECODE_RULES),
            front,
            front,
            behind,
            behind,
        ),
        mesh,
        work.sequences * work.length,
        forward_flops(model, prompts, length, logits=work.sequences, group=shared),
        pairs=shared and group_pairs(length, shared, _windows(model)),
    )


def _prefill(config: Config, mesh: Mesh, work: Work) -> Program:
    model, (lanes, rows, _) = _stored(config), _lanes(mesh, work)
    prompts = _state(
        partial(empty_prompts, model, lanes, rows, work.length), prompt_axes(model), mesh
    )
    piece = min(PIECE, work.length)
    pieces = -(-work.length // piece) * rows

    def run(params: Any, prompts: Prompts, tokens: Any, where: Any) -> Any:
        """The engine's program for every piece of every prompt, one after the other."""
        return jax.lax.map(lambda x: extend(model, params, prompts, x[0], *x[1]), (tokens, where))

    return Program(
        _jitted(
            jax.jit(run),
            _params(model, mesh, DECODE_RULES),
            prompts,
            _spread(mesh, (pieces, lanes, piece), jnp.int32),
            (_spread(mesh, (pieces, lanes), jnp.int32),) * 3,
        ),
        mesh,
        lanes * rows * work.length,
        forward_flops(model, lanes * rows, work.length, logits=0),
    )


def _decode(config: Config, mesh: Mesh, work: Work) -> Program:
    model, (lanes, rows, places) = _stored(config), _lanes(mesh, work)
    slots = rows * places
    everywhere = NamedSharding(mesh, PartitionSpec())

    def scalar(dtype: Any, *shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=everywhere)

    def waiting(dtype: Any) -> Any:
        return _array(mesh, (lanes, slots), dtype, DECODE_RULES)

    numbers, names, flags = waiting(jnp.int32), waiting(jnp.uint32), waiting(jnp.bool_)
    tail = _array(mesh, (lanes,), jnp.int32, DECODE_RULES)
    arguments = (
        _params(model, mesh, DECODE_RULES),
        _state(partial(empty_prompts, model, lanes, rows, work.length), prompt_axes(model), mesh),
        _state(partial(empty_slots, model, lanes, slots, work.new), slot_axes(model), mesh),
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
    )


# Name: how it is made, the paper's sequences, whether it belongs to training.
_MAKE: dict[str, Callable[[Config, Mesh, Work], Program]] = {
    "rft-step": _rft_step,
    "grpo-step": _grpo_step,
    "grpo-score": _grpo_score,
    "meta-step": _meta_step,
    "meta-score": _meta_score,
    "prefill": _prefill,
    "decode": _decode,
}


def _jitted(function: Any, *arguments: Any) -> Callable[[], Any]:
    """Traces a jitted function for its abstract arguments."""
    return lambda: function.lower(*arguments)


def _trained(config: Config) -> Model:
    return Model(config, dtype="bfloat16", param_dtype="float32")


def _stored(config: Config) -> Model:
    return Model(config, dtype="bfloat16", param_dtype="bfloat16")


def _params(model: Model, mesh: Mesh, rules: Rules) -> Any:
    check_divisible(model.abstract(), model.axes(), mesh, rules)
    return _placed(model.abstract(), model.axes(), mesh, rules)


def _placed(shapes: Any, axes: Any, mesh: Mesh, rules: Rules) -> Any:
    """The abstract arrays, laid out on the mesh; names may be those of several arrays."""
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        shapes,
        jax.tree.broadcast(shardings_of(axes, mesh, rules), shapes),
    )


def _size(model: Model, mesh: Mesh, rules: Rules) -> int:
    """Bytes of the weights on one device."""
    leaves = jax.tree.leaves(_params(model, mesh, rules))
    shards = ((leaf.sharding.shard_shape(leaf.shape), leaf.dtype.itemsize) for leaf in leaves)
    return sum(math.prod(shape) * size for shape, size in shards)


def _parts(mesh: Mesh, work: Work, rows: int) -> int:
    """Micro-batches of the work, checked; rows: what is not cut."""
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    parts = work.microbatches or max(rows // ways, 1)
    check_batch(rows, parts, mesh, "sequences" if rows == work.sequences else "sequences / group")
    return parts


def _lanes(mesh: Mesh, work: Work) -> tuple[int, int, int]:
    """Lanes, prompts of a lane, and samples of a prompt, for an engine of so many slots.

    Raises:
        ValueError: the lanes do not divide the samples.
    """
    lanes = mesh.shape["data"] * mesh.shape["fsdp"]
    if work.sequences % lanes:
        raise ValueError(
            f"sequences is {work.sequences}, but the mesh splits the batch over {lanes} devices: "
            f"give a multiple of {lanes}."
        )
    slots = work.sequences // lanes
    places = min(work.group or slots, slots)
    return lanes, -(-slots // places), places


def _state(make: Callable[[], Any], axes: Any, mesh: Mesh) -> Any:
    """What the engine keeps on the devices."""
    return _placed(jax.eval_shape(make), axes, mesh, DECODE_RULES)


def _spread(mesh: Mesh, shape: tuple[int, ...], dtype: Any) -> Any:
    """Pieces after each other, each over the lanes."""
    sharding = NamedSharding(mesh, spec_for((None, "batch"), DECODE_RULES))
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def _array(mesh: Mesh, shape: tuple[int, ...], dtype: Any, rules: Rules) -> Any:
    """Rows over the data axes."""
    sharding = NamedSharding(mesh, spec_for(("batch",), rules))
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def _batch(mesh: Mesh, work: Work) -> Batch:
    def of(dtype: Any, *shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=batch_sharding(mesh))

    ids = of(jnp.int32, work.sequences, work.length)
    return Batch(
        tokens=ids,
        targets=ids,
        mask=of(jnp.bool_, work.sequences, work.length),
        positions=ids,
        segments=ids,
        too_long=of(jnp.int32, work.sequences),
    )


def _rollouts(mesh: Mesh, work: Work) -> RolloutBatch:
    def of(dtype: Any, *shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=batch_sharding(mesh))

    prompts, group, row = work.grouped()
    prompt, written = (prompts, row.prompt), (prompts, group, row.completion)
    numbers = of(jnp.float32, *written)
    return RolloutBatch(
        prompts=of(jnp.int32, *prompt),
        prompt_positions=of(jnp.int32, *prompt),
        tokens=of(jnp.int32, *written),
        positions=of(jnp.int32, *written),
        advantage=of(jnp.float32, prompts, group),
        sampled_logprob=numbers,
        old_logprob=numbers,
        reference_logprob=numbers,
    )
