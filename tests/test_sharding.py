"""Meshes and rules, and that a model on eight devices computes what it computes on one."""

from __future__ import annotations

import itertools
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from grm_jax.aot.topology import Topology
from grm_jax.mesh import MeshConfig
from grm_jax.models import decoding
from grm_jax.models.config import (
    PRESETS,
    DeepSeekConfig,
    Gemma2Config,
    Gemma3Config,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
)
from grm_jax.models.model import Model
from grm_jax.models.spec import Rope
from grm_jax.models.transformer import embed
from grm_jax.sharding import (
    DECODE_RULES,
    MESH_AXES,
    TRAIN_RULES,
    check_divisible,
    constrain,
    make_mesh,
    shardings_of,
    spec_for,
)
from tests.cached import through_caches

LATENT = Model(
    DeepSeekConfig(
        "deepseek_v3", 64, 3, 1, 32, 48, 16, 8, 3, 1, 8, 10, Rope(100.0), 12, 6, 4, 6,
        groups=4, top_groups=2, normalized=True,
    )
)  # fmt: skip
MODEL = Model(Gemma2Config(64, 4, 32, 48, 8, 4, 8, 12.0, sliding_window=6, attn_logit_softcap=5.0))
# The other families: normed queries and keys, two segments, biases, a head of its own; a gate of
# another kind, and queries that come from no latent vector.
OTHERS = {
    "gemma3": Gemma3Config(64, 4, 32, 48, 8, 4, 8, 12.0, sliding_window=6, pattern=3),
    "qwen3": Qwen3Config(64, 1, 32, 48, 8, 4, 8),
    "qwen2": Qwen2Config(64, 2, 32, 48, 8, 4, 8, windowed=True, sliding_window=6, full_layers=1),
    "llama": LlamaConfig(64, 1, 32, 48, 8, 4, 8, Rope(100.0)),
    "deepseek_v2": DeepSeekConfig(
        "deepseek_v2", 64, 2, 1, 32, 48, 16, 8, 3, 1, 8, None, Rope(100.0), 12, 6, 4, 6,
        groups=4, top_groups=2, routed_scale=4.0,
    ),
}  # fmt: skip
BATCH, TIME = 8, 13


def mesh_of(shape):
    return make_mesh(MeshConfig(*shape), jax.devices()[: int(np.prod(shape))])


def tokens_of(*shape):
    return np.random.default_rng(0).integers(1, 64, shape, np.int32)


@pytest.fixture(scope="module")
def params():
    return random_params(MODEL)


def random_params(model):
    """Random weights large enough that attention is far from uniform, norms included."""
    leaves, tree = jax.tree.flatten(model.abstract())
    rng = np.random.default_rng(0)
    return tree.unflatten([jnp.asarray(rng.normal(0, 0.3, x.shape), x.dtype) for x in leaves])


def assert_close(ours, theirs):
    """Every leaf within 1e-5 of the largest number in it: sums in another order, no more."""

    def compare(path, a, b):
        b = np.asarray(b)
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max(), err_msg=str(path))

    jax.tree_util.tree_map_with_path(compare, ours, theirs)


@partial(jax.jit, static_argnums=0)
def train_program(model, params, tokens, positions):
    """Logits, and the gradient of the mean log-probability of the next token."""

    def loss(params):
        logits = model.logits(params, model.hidden(params, tokens, positions, remat="full"))
        logprobs = jax.nn.log_softmax(logits[:, :-1])
        return jnp.take_along_axis(logprobs, tokens[:, 1:, None], -1).mean(), logits

    return jax.grad(loss, has_aux=True)(params)


@partial(jax.jit, static_argnums=0)
def decode_program(model, params, tokens, lengths, new):
    """Logits of the prompts' last tokens and of every new token."""
    last, hidden = through_caches(model, params, tokens, lengths, new)
    return model.logits(params, last), model.logits(params, hidden)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 2, 2), (1, 4, 2), (1, 1, 2)])
def test_training_on_a_mesh_equals_one_device(params, shape):
    tokens, positions = tokens_of(BATCH, TIME), np.tile(np.arange(TIME, dtype=np.int32), (BATCH, 1))
    mesh = mesh_of(shape)
    shardings = shardings_of(MODEL.axes(), mesh, TRAIN_RULES)
    rows = NamedSharding(mesh, spec_for(("batch",), TRAIN_RULES))
    with jax.set_mesh(mesh):
        given = jax.device_put(params, shardings), *jax.device_put((tokens, positions), rows)
        gradient, logits = train_program(MODEL, *given)
    spread = {name for entry in logits.sharding.spec for name in np.atleast_1d(entry) if name}
    assert spread == {name for name, size in mesh.shape.items() if size > 1}
    assert_close((gradient, logits), train_program(MODEL, params, tokens, positions))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "prompts"), [((8, 1, 1), 2), ((2, 2, 2), 8), ((1, 2, 4), 2), ((1, 1, 2), 8)]
)
def test_decoding_on_a_mesh_equals_one_device(params, shape, prompts):
    """A prompt in each lane, or in some of them."""
    lengths = np.where(np.arange(8) < prompts, TIME, 0)[:, None]
    lengths[1] = 4
    given = (tokens_of(8, 1, TIME), lengths, tokens_of(8, 1, 2, 9))
    mesh = mesh_of(shape)
    placed = jax.device_put(params, shardings_of(MODEL.axes(), mesh, DECODE_RULES))
    with jax.set_mesh(mesh):
        ours = decode_program(MODEL, placed, *given)
    kept = lambda tree: [leaf[:prompts] for leaf in jax.tree.leaves(tree)]  # noqa: E731
    assert_close(kept(ours), kept(decode_program(MODEL, params, *given)))


@pytest.mark.slow
@pytest.mark.parametrize("model", [MODEL, LATENT], ids=["windows", "latent"])
def test_decoding_as_on_a_tpu_equals_decoding_here(monkeypatch, model):
    """Each sample's own tokens are read before the new one is written; rings wrap."""
    params = random_params(model)
    given = (tokens_of(8, 1, TIME), np.full((8, 1), TIME), tokens_of(8, 1, 2, 9))
    here = decode_program(model, params, *given)
    monkeypatch.setattr(decoding, "for_tpu", lambda: True)
    mesh = mesh_of((2, 2, 2))
    placed = jax.device_put(params, shardings_of(model.axes(), mesh, DECODE_RULES))
    with jax.set_mesh(mesh):
        assert_close(jax.jit(partial(decode_program.__wrapped__, model))(placed, *given), here)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_other_families_on_a_mesh_equal_one_device(name):
    """Laid out as for training, and as for decoding."""
    model = Model(OTHERS[name])
    params, mesh = random_params(model), mesh_of((2, 2, 2))
    rows = tokens_of(BATCH, TIME), np.tile(np.arange(TIME, dtype=np.int32), (BATCH, 1))
    run = jax.jit(lambda p, *rows: model.logits(p, model.hidden(p, *rows)))
    alone = run(params, *rows)
    for rules in (TRAIN_RULES, DECODE_RULES):
        with jax.set_mesh(mesh):
            placed = jax.device_put(params, shardings_of(model.axes(), mesh, rules))
            assert_close(run(placed, *rows), alone)


def test_weights_move_between_training_and_decoding(params):
    """The same bits, laid out anew by device_put alone."""
    mesh = mesh_of((2, 2, 2))
    train, decode = (shardings_of(MODEL.axes(), mesh, r) for r in (TRAIN_RULES, DECODE_RULES))
    trained = jax.device_put(params, train)
    decoded = jax.device_put(trained, decode)
    gate = lambda tree: tree["pairs"]["local"]["gate"]  # noqa: E731
    assert gate(trained).addressable_shards[0].data.shape == (2, 16, 24)
    assert gate(decoded).addressable_shards[0].data.shape == (2, 32, 24)
    for tree in (decoded, jax.device_put(decoded, train)):
        jax.tree.map(np.testing.assert_array_equal, tree, params)


@pytest.mark.slow
def test_init_on_a_mesh_gives_the_bits_of_init_on_one_device():
    mesh = mesh_of((2, 2, 2))
    shardings = shardings_of(MODEL.axes(), mesh, TRAIN_RULES)
    key = jax.random.key(3)
    spread = jax.jit(MODEL.init, out_shardings=shardings)(key)
    assert spread["embed"].sharding == shardings["embed"]
    jax.tree.map(np.testing.assert_array_equal, spread, jax.jit(MODEL.init)(key))


@pytest.mark.slow
def test_no_device_holds_the_activations_of_the_whole_batch():
    """What the pins of `constrain` are for: without them XLA lays whole activations out anew.

    The logits, for which rows come together chunk by chunk, are left out.
    """

    def loss(params, tokens, positions):
        return jnp.square(MODEL.hidden(params, tokens, positions, remat="full")).sum()

    mesh = mesh_of((1, 4, 2))
    shardings = shardings_of(MODEL.axes(), mesh, TRAIN_RULES)
    rows = NamedSharding(mesh, spec_for(("batch",), TRAIN_RULES))
    words = jax.ShapeDtypeStruct((BATCH, TIME), jnp.int32, sharding=rows)
    with jax.set_mesh(mesh):
        weights = jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
            MODEL.abstract(),
            shardings,
        )
        program = jax.jit(jax.grad(loss)).lower(weights, words, words).compile().as_text()
    width = MODEL.config.embed_dim
    assert re.search(rf"f32\[{BATCH // 4},{TIME},{width}\]", program)
    assert not re.findall(rf"\w+\[{BATCH},{TIME},{width}\].*", program)
    assert not re.findall(r"collective-permute\(", program)


def test_activations_are_pinned_whatever_comes_in(params):
    """After the embedding and on the logits, even if weights and tokens lie on every device."""
    tokens = jnp.asarray(tokens_of(BATCH, TIME))
    with jax.set_mesh(mesh_of((2, 2, 2))):
        x = jax.jit(partial(embed, MODEL.spec, dtype="float32"))(params, tokens)
        logits = jax.jit(MODEL.logits)(params, x)
        one_each = jax.jit(MODEL.logits)(params, x[:, 0])
    batch = ("data", "fsdp")
    assert x.sharding.spec == PartitionSpec(batch)
    parts = ("fsdp", "tensor")  # rows are whole there, and the vocabulary is split instead
    assert logits.sharding.spec == PartitionSpec("data", None, parts)
    assert one_each.sharding.spec == PartitionSpec("data", parts)


def test_constrain_pins_only_where_a_mesh_is_set():
    x = jnp.ones((BATCH, TIME, 32))
    assert constrain(x, ("batch", None, None)) is x
    with jax.set_mesh(mesh_of((2, 2, 2))):
        pinned = jax.jit(partial(constrain, axes=("batch", None, None)))(x)
    assert pinned.sharding.spec == PartitionSpec(("data", "fsdp"))


# Meshes


def test_minus_one_takes_what_is_left():
    mesh = make_mesh(MeshConfig(data=2, fsdp=-1, tensor=2))
    assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "tensor": 2}
    assert mesh.axis_types == (AxisType.Auto,) * 3


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((3, 1, 1), "mesh data=3 fsdp=1 tensor=1 needs 3 devices, but 8 are here"),
        ((16, 1, 1), "needs 16 devices, but 8 are here"),
        ((3, -1, 1), "needs a multiple of 3 devices, but 8 are here"),
        ((-1, -1, 1), "at most one may be -1"),
        ((0, 1, 8), "sizes must be 1 or more"),
        ((-2, 1, 1), "sizes must be 1 or more"),
    ],
)
def test_a_mesh_that_does_not_fit_is_a_sentence(shape, words):
    with pytest.raises(ValueError, match=words):
        make_mesh(MeshConfig(*shape))


SLICES = ["v5e:4x4", "v5e:2x4", "v5p:2x2x4", "v5p:4x4x4", "v6e:4x4", "tpu7x:2x2x2"]


def as_jax_lays_it_out(sizes, devices):
    """jax.make_mesh, and None where it refuses to split an axis of the torus."""
    try:
        return jax.make_mesh(sizes, MESH_AXES, devices=devices).devices
    except NotImplementedError:
        return None


@pytest.mark.parametrize("name", SLICES)
def test_one_slice_is_laid_out_as_jax_lays_it_out(name):
    """And where jax refuses, every device has a place all the same."""
    devices = Topology(name).devices()
    powers = [n for n in (1, 2, 4, 8, 16) if len(devices) % n == 0]
    compared = 0
    for fsdp, tensor in itertools.product(powers, powers):
        if len(devices) % (fsdp * tensor):
            continue
        sizes = (len(devices) // (fsdp * tensor), fsdp, tensor)
        mesh, theirs = make_mesh(MeshConfig(*sizes), devices), as_jax_lays_it_out(sizes, devices)
        assert mesh.devices.shape == sizes
        assert set(mesh.devices.flat) == set(devices)
        if theirs is not None:
            assert (mesh.devices == theirs).all()
            compared += 1
    assert compared >= 5


@pytest.mark.parametrize("name", SLICES)
@pytest.mark.parametrize("slices", [2, 4])
def test_slices_lie_one_after_the_other_along_data(name, slices):
    """Each laid out as if it were alone, whatever the order in which the slices are given."""
    alone = make_mesh(MeshConfig(2, -1, 2), Topology(name).devices())
    devices = Topology(f"{name}*{slices}").devices()
    devices.sort(key=lambda device: -device.slice_index)
    mesh = make_mesh(MeshConfig(2 * slices, -1, 2), devices)
    place = np.vectorize(lambda device: str((device.coords, device.core_on_chip)))
    for index, part in enumerate(np.split(mesh.devices, slices)):
        assert {device.slice_index for device in part.flat} == {index}
        assert (place(part) == place(alone.devices)).all()


@pytest.mark.parametrize("shape", [MeshConfig(), MeshConfig(1, 4, -1), MeshConfig(3, -1, 1)])
def test_fsdp_and_tensor_over_slices_are_a_sentence(shape):
    said = rf"mesh data={shape.data} .*: these \d+ devices are 2 slices, .* a multiple of 2"
    with pytest.raises(ValueError, match=said):
        make_mesh(shape, Topology("v5p:2x2x3*2").devices())


def abstract_mesh(tensor, fsdp=1):
    return AbstractMesh((1, fsdp, tensor), MESH_AXES, axis_types=(AxisType.Auto,) * 3)


@pytest.mark.parametrize("rules", [TRAIN_RULES, DECODE_RULES], ids=["train", "decode"])
def test_27b_splits_sixteen_ways_by_heads_and_no_more(rules):
    model = Model(PRESETS["27b"])
    check_divisible(model.abstract(), model.axes(), abstract_mesh(16, fsdp=64), rules)
    with pytest.raises(ValueError, match="kv_heads dimension has 16 entries, which tensor=32"):
        check_divisible(model.abstract(), model.axes(), abstract_mesh(32), rules)


def test_rules_put_names_on_mesh_axes():
    axes = MODEL.axes()
    specs = {
        ("embed",): (PartitionSpec("tensor", "fsdp"), PartitionSpec("tensor", None)),
        ("pairs", "local", "q"): (
            PartitionSpec(None, "tensor", "fsdp", None),
            PartitionSpec(None, "tensor", None, None),
        ),
        ("pairs", "global", "down"): (
            PartitionSpec(None, "tensor", "fsdp"),
            PartitionSpec(None, "tensor", None),
        ),
        ("final_norm",): (PartitionSpec(None), PartitionSpec(None)),
    }
    for path, (train, decode) in specs.items():
        names = axes
        for key in path:
            names = names[key]
        assert spec_for(names, TRAIN_RULES) == train
        assert spec_for(names, DECODE_RULES) == decode
