"""`python -m benchmarks.adapter --size qwen3-0.6b --rank 16`: the memory of an update of an adapter
beside that of all weights, as the compiler counts it on this machine.

Nothing is run, and no weight is made, so that models of any size can be asked for.
"""

from __future__ import annotations

import argparse
from typing import Any, get_args

import jax
import jax.numpy as jnp

from grm_jax.data.pipeline import Batch
from grm_jax.mesh import MeshConfig
from grm_jax.models.adapter import Adapter
from grm_jax.models.config import PRESETS, Remat
from grm_jax.models.model import Model
from grm_jax.sharding import TRAIN_RULES, make_mesh, shardings_of
from grm_jax.train.config import OptimizerConfig
from grm_jax.train.optimizer import make_optimizer, make_schedule
from grm_jax.train.sft import sft_loss
from grm_jax.train.state import TrainState, abstract_state, state_shardings
from grm_jax.train.step import compile_step, make_step, trained_alone

GIB = 2**30


def main() -> None:
    """Compiles and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--size", choices=PRESETS, default="qwen3-0.6b", help="a model's name")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--remat", choices=get_args(Remat), default="full")
    asked = parser.parse_args()
    config, work = PRESETS[asked.size], (asked.sequences, asked.length, asked.remat)
    whole = Model(config, dtype="bfloat16", param_dtype="float32")
    frozen = Model(config, dtype="bfloat16", param_dtype="bfloat16")
    adapter = Adapter(frozen, asked.rank, float(2 * asked.rank))
    shape = f"{asked.sequences} x {asked.length} tokens, remat {asked.remat}"
    print(f"{asked.size}, {shape}; {jax.devices()[0].device_kind}, jax {jax.__version__}")
    sizes = {
        "all weights, in float32": step_memory(whole, None, *work),
        f"an adapter of rank {asked.rank}, weights in bfloat16": step_memory(
            frozen, adapter, *work
        ),
    }
    for name, (state, rest) in sizes.items():
        print(f"{name}: {state / GIB:.2f} GiB of state + {rest / GIB:.2f} GiB = "
              f"{(state + rest) / GIB:.2f} GiB")  # fmt: skip
    first, second = (sum(size) for size in sizes.values())
    print(f"{first / second:.1f} times less with the adapter")


def step_memory(
    model: Model, adapter: Adapter | None, sequences: int, length: int, remat: Remat
) -> tuple[int, int]:
    """Bytes of an update of SFT: what it is given and keeps, and what it needs besides."""
    mesh = make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
    part, config = adapter or model, OptimizerConfig()
    schedule = make_schedule(config, 10)
    optimizer = make_optimizer(config, schedule, part.axes())
    places = state_shardings(part, optimizer, mesh)
    state = abstract_state(part, optimizer, places)
    if adapter is not None:
        stays = shardings_of(model.axes(), mesh, TRAIN_RULES)
        weights = jax.tree.map(
            lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
            model.abstract(),
            stays,
        )
        state = TrainState(state.step, state.params, state.opt_state, weights)
        places = TrainState(places.step, places.params, places.opt_state, stays)
    step = make_step(
        sft_loss(model, chunk=256, remat=remat),
        optimizer,
        schedule,
        join=trained_alone if adapter is None else adapter.join,
    )
    with jax.set_mesh(mesh):
        program = compile_step(step, places, mesh).lower(state, _batch(sequences, length)).compile()
    memory = program.memory_analysis()
    assert memory is not None
    kept = memory.argument_size_in_bytes
    return (
        kept,
        memory.temp_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes,
    )


def _batch(sequences: int, length: int) -> Any:
    def of(dtype: Any, *shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype)

    ids = of(jnp.int32, sequences, length)
    mask = of(jnp.bool_, sequences, length)
    return Batch(ids, ids, mask, ids, ids, of(jnp.int32, sequences))


if __name__ == "__main__":
    main()
