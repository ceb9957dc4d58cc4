"""One update: the same on any mesh and in any micro-batches, and compiled once."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from grm_jax.mesh import MeshConfig
from grm_jax.sharding import make_mesh
from grm_jax.train.config import OptimizerConfig
from grm_jax.train.optimizer import make_optimizer, make_schedule
from grm_jax.train.sft import sft_loss
from grm_jax.train.state import new_state, state_shardings
from grm_jax.train.step import batch_sharding, check_batch, compile_step, make_step

ALONE = MeshConfig(1, 1, 1)
CONFIG = OptimizerConfig(3e-3, warmup_steps=2, weight_decay=0.1)


@pytest.fixture(scope="module")
def update(model, params, make_batch):
    """update(mesh, microbatches, config, batches) -> (params, metrics of the last, traces)."""

    def run(mesh=ALONE, microbatches=1, config=CONFIG, batches=3, devices=1, **loss):
        mesh = make_mesh(mesh, jax.devices()[:devices])
        schedule = make_schedule(config, 10)
        optimizer = make_optimizer(config, schedule, model.axes())
        places = state_shardings(model, optimizer, mesh)
        summed, traces = sft_loss(model, **{"chunk": 5, **loss}), []

        def traced(params, batch):
            traces.append(batch)
            return summed(params, batch)

        step = make_step(traced, optimizer, schedule, microbatches=microbatches)
        step = compile_step(step, places, mesh)
        with jax.set_mesh(mesh):
            state = jax.jit(lambda p: new_state(p, optimizer), out_shardings=places)(params)
            for seed in range(batches):
                batch = jax.device_put(make_batch(seed), batch_sharding(mesh))
                state, metrics = step(state, batch)
        assert int(state.step) == batches
        return jax.device_get(state.params), jax.device_get(metrics), len(traces)

    return run


@pytest.fixture(scope="module")
def reference(update):
    return update()


def assert_same(got, wanted):
    for key in ("train/loss", "train/grad_norm"):
        np.testing.assert_allclose(got[1][key], wanted[1][key], rtol=1e-4)
    # Adam divides by the root of tiny squares, which magnifies rounding: hence the absolute part,
    # 1 % of one step of the learning rate.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=3e-5, rtol=1e-4), got[0], wanted[0]
    )


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 8, 1), (2, 2, 2)])
def test_a_sharded_step_equals_that_of_one_device(update, reference, shape):
    assert_same(update(MeshConfig(*shape), devices=int(np.prod(shape))), reference)


@pytest.mark.slow
def test_microbatches_equal_one_batch(update, reference):
    assert_same(update(microbatches=4), reference)


@pytest.mark.slow
def test_microbatches_on_a_mesh(update, reference):
    assert_same(update(MeshConfig(2, 2, 1), microbatches=2, devices=4), reference)


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["attention", "dots", "full"])
def test_remat_and_chunks_change_nothing(update, reference, remat):
    assert_same(update(remat=remat, chunk=640), reference)


def test_the_loss_is_the_mean_over_all_target_tokens(model, params, make_batch):
    """Not a mean of the rows' means: rows have different numbers of targets."""
    batch = jax.tree.map(jnp.asarray, make_batch(0))
    hidden = model.hidden(params, batch.tokens, batch.positions, batch.segments)
    logp = jax.nn.log_softmax(model.logits(params, hidden).astype(jnp.float32))
    picked = np.take_along_axis(np.asarray(logp), np.asarray(batch.targets)[..., None], -1)[..., 0]
    value, count, sums = sft_loss(model, chunk=5)(params, batch)
    np.testing.assert_allclose(value / count, -picked[np.asarray(batch.mask)].mean(), rtol=1e-5)
    assert count == batch.mask.sum() == sums["data/target_tokens"]
    assert sums["data/tokens"] == (batch.segments > 0).sum()


def test_one_program_serves_all_batches(update, reference):
    (*_, of_one), (*_, of_three) = update(batches=1), reference
    assert of_one == of_three > 0


def test_padding_tokens_do_not_matter(model, params, make_batch):
    batch = make_batch(3)
    other = np.where(batch.segments > 0, batch.tokens, 7)
    targets = np.where(batch.mask, batch.targets, 5)
    loss = jax.jit(sft_loss(model, chunk=5))
    changed = batch._replace(tokens=other, targets=targets)
    assert not np.array_equal(other, batch.tokens)
    np.testing.assert_allclose(loss(params, batch)[0], loss(params, changed)[0], rtol=1e-6)


@pytest.mark.slow
def test_a_batch_without_targets_changes_no_weight(model, params, make_batch):
    schedule = optax.constant_schedule(1.0)
    step = jax.jit(make_step(sft_loss(model, chunk=5), optax.sgd(1.0), schedule))
    batch = jax.tree.map(jnp.asarray, make_batch(0))
    batch = batch._replace(mask=jnp.zeros_like(batch.mask))
    state, metrics = step(new_state(params, optax.sgd(1.0)), batch)
    assert metrics["train/loss"] == metrics["train/grad_norm"] == 0
    jax.tree.map(np.testing.assert_array_equal, state.params, params)


@pytest.fixture(scope="module")
def quadratic():
    """step(state, batch), AdamW on the distance of nine weights to each row; the first state."""
    config = OptimizerConfig(0.1, warmup_steps=2, weight_decay=0.1)
    schedule = make_schedule(config, 10)
    optimizer = make_optimizer(config, schedule, {"w": ("embed", "mlp")})

    def loss(params, batch):
        distance = jnp.sum((params["w"] - batch) ** 2)
        # A loss may be finite where its gradient is not: the root at 0.
        root = jnp.sqrt(jnp.sum((params["w"] * jnp.min(jnp.abs(batch - 7))) ** 2))
        return distance + root, jnp.float32(batch.shape[0]), {}

    def begin():
        return new_state({"w": jnp.arange(9.0).reshape(3, 3)}, optimizer)

    return jax.jit(make_step(loss, optimizer, schedule)), begin


def rows(*values):
    return jnp.stack([jnp.full((3, 3), value) for value in values])


@pytest.mark.parametrize(
    "bad", [rows(1.0, jnp.nan), rows(jnp.inf, 2.0), rows(7.0)], ids=["nan", "inf", "gradient"]
)
def test_a_step_that_is_not_finite_is_as_if_it_had_not_been(quadratic, bad):
    step, begin = quadratic
    good = [rows(1.0, 2.0), rows(3.0, -1.0)]
    state, metrics = step(begin(), good[0])
    assert metrics["train/skipped"] == 0
    same, metrics = step(state, bad)
    assert metrics["train/skipped"] == 1
    if bad.shape[0] == 1:
        assert jnp.isfinite(metrics["train/loss"])
    jax.tree.map(np.testing.assert_array_equal, same, state)
    after, _ = step(same, good[1])
    wanted, _ = step(state, good[1])
    assert int(after.step) == 2
    assert not np.array_equal(after.params["w"], state.params["w"])
    jax.tree.map(np.testing.assert_array_equal, after, wanted)


def test_decay_touches_matrices_only(model, params):
    config = OptimizerConfig(0.5, schedule="constant", weight_decay=0.2, clip_norm=None)
    optimizer = make_optimizer(config, make_schedule(config, 10), model.axes())
    ones = jax.tree.map(jnp.ones_like, params)
    nothing = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(nothing, optimizer.init(ones), ones)
    for path, value in jax.tree_util.tree_leaves_with_path(updates):
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(value, 0 if "norm" in name else -0.1, err_msg=name)


def test_clipping_bounds_the_gradient(model, params):
    """With b1 = b2 = 0 Adam only keeps signs, so look at what the clip passes on."""
    config = OptimizerConfig(1.0, schedule="constant", clip_norm=0.5, b1=0.0, b2=0.0, eps=1e6)
    optimizer = make_optimizer(config, make_schedule(config, 10), model.axes())
    grads = jax.tree.map(jnp.ones_like, params)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    np.testing.assert_allclose(optax.tree.norm(updates) * 1e6, 0.5, rtol=1e-4)


def test_schedules():
    config = OptimizerConfig(1.0, warmup_steps=4, final_fraction=0.1)
    rate = make_schedule(config, 104)
    np.testing.assert_allclose([rate(0), rate(2), rate(4)], [0.2, 0.6, 1.0], rtol=1e-6)
    np.testing.assert_allclose([rate(54), rate(104)], [0.55, 0.1], rtol=1e-5)
    flat = make_schedule(replace(config, schedule="constant", warmup_steps=0), 10)
    assert [flat(0), flat(9)] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate is 0"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"learning_rate": math.inf}, "learning_rate is inf"),
        ({"clip_norm": math.nan}, "clip_norm is nan"),
        ({"weight_decay": math.inf}, "weight_decay is inf"),
        ({"eps": math.nan}, "eps is nan"),
        ({"b1": math.nan}, "b1 is nan"),
        ({"warmup_steps": -1}, "warmup_steps is -1"),
        ({"clip_norm": 0.0}, "clip_norm is 0"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
        ({"eps": 0.0}, "eps is 0"),
        ({"b1": 1.0}, "b1 is 1"),
        ({"b2": -0.1}, "b2 is -0.1"),
        ({"final_fraction": 1.5}, "final_fraction is 1.5"),
    ],
)
def test_numbers_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**change)


def test_a_warmup_without_a_step_after_it_is_refused():
    with pytest.raises(ValueError, match="warmup_steps is 10, but the stage has only 10 steps"):
        make_schedule(OptimizerConfig(warmup_steps=10), 10)


def test_rows_that_cannot_be_divided_are_refused():
    mesh = make_mesh(MeshConfig(2, 4, 1))
    check_batch(16, 2, mesh)
    for rows, microbatches in ((12, 1), (8, 2), (8, 0)):
        with pytest.raises(ValueError, match=f"sequences is {rows}, to be cut into {microbatches}"):
            check_batch(rows, microbatches, mesh)


def test_a_mesh_that_does_not_divide_the_weights_is_refused(model):
    mesh = make_mesh(MeshConfig(1, 1, 8))
    optimizer = optax.sgd(1.0)
    with pytest.raises(ValueError, match="kv_heads"):
        state_shardings(model, optimizer, mesh)
