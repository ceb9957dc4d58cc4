"""A prompt and its completions in one row give what each completion gives behind its own prompt."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grm_jax.mesh import MeshConfig
from grm_jax.models.config import Gemma2Config
from grm_jax.models.model import Model
from grm_jax.sharding import make_mesh
from tests.test_sharding import LATENT, OTHERS, random_params

VOCAB = 41
# Windows shorter than the prompts; soft caps that are felt.
CONFIG = Gemma2Config(
    VOCAB, 4, 16, 24, 4, 2, 8, 6.0, sliding_window=5, attn_logit_softcap=2.0, max_position=64
)
MODEL = Model(CONFIG)


@pytest.fixture(scope="module")
def params():
    return jax.tree.map(lambda p: 12 * p, jax.jit(MODEL.init)(jax.random.key(1)))


def groups(prompts, completions, s=12, t=9, seed=0):
    """Prompts of these lengths at the end of S, completions at the start of T; else rubbish."""
    rng = np.random.default_rng(seed)
    p, g = np.shape(completions)
    ids = rng.integers(0, VOCAB, (p, s)).astype(np.int32)
    at = np.full((p, s), -1, np.int32)
    tokens = rng.integers(0, VOCAB, (p, g, t)).astype(np.int32)
    positions = np.full((p, g, t), -1, np.int32)
    for i, length in enumerate(prompts):
        at[i, s - length :] = np.arange(length)
        for j, own in enumerate(completions[i]):
            positions[i, j, :own] = length + np.arange(own)
    return ids, at, tokens, positions


def plain(model, params, given):
    """The states that predict each token, from rows of one prompt and one completion: [P, G, T, D].

    Padding stands where it stood, at the front and at the end of the row: masks heed positions.
    """
    ids, at, tokens, positions = map(jnp.asarray, given)
    p, g, t = tokens.shape
    spread = lambda x: jnp.repeat(x, g, axis=0)  # noqa: E731
    rows = jnp.concatenate([spread(ids), tokens.reshape(p * g, t)], axis=1)
    where = jnp.concatenate([spread(at), positions.reshape(p * g, t)], axis=1)
    hidden = model.hidden(params, rows, where)
    return hidden[:, ids.shape[1] - 1 : -1].reshape(p, g, t, -1)


def grouped(model, params, given, remat="none"):
    return model.group_hidden(params, *map(jnp.asarray, given), remat=remat)


def total(states, given, direction):
    """A number that depends on every state that counts, and on no other."""
    real = jnp.asarray(given[3] >= 0)[..., None]
    return jnp.sum(jnp.where(real, states.astype(jnp.float32) * direction, 0))


def graded(states, params, given):
    direction = np.random.default_rng(3).normal(size=(*given[2].shape, CONFIG.embed_dim))

    @jax.jit
    def run(params):
        return jax.value_and_grad(
            lambda p: total(states(p), given, direction.astype(np.float32)), allow_int=False
        )(params)

    return jax.device_get(run(params))


def same(found, wanted, tolerance=1e-5):
    """Every leaf, of its largest number."""
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(wanted), strict=True
    ):
        error = np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max()
        assert error <= tolerance * np.abs(b).max(), (jax.tree_util.keystr(path), error)


UNEVEN = groups((12, 7, 1, 4), ((9, 1, 4), (3, 9, 9), (2, 0, 8), (6, 5, 0)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [
        UNEVEN,
        groups((8, 12), ((9,), (2,))),  # a group of one
        groups((3, 2), ((4, 5), (9, 1)), s=4),  # the window reaches from a completion to the start
        groups((12, 12), ((9, 9), (9, 9))),  # no padding
    ],
    ids=["uneven", "one", "short", "full"],
)
def test_states_and_every_gradient_are_those_of_the_plain_computation(params, given):
    wanted = graded(lambda p: plain(MODEL, p, given), params, given)
    found = graded(lambda p: grouped(MODEL, p, given), params, given)
    same(found, wanted)
    real = given[3] >= 0
    states = np.asarray(grouped(MODEL, params, given))[real]
    np.testing.assert_allclose(states, np.asarray(plain(MODEL, params, given))[real], atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*OTHERS, "deepseek_v3"])
def test_the_other_families_group_as_they_compute_alone(name):
    """With windows that end inside the prompts, latent vectors, and experts chosen per token."""
    model = LATENT if name == "deepseek_v3" else Model(OTHERS[name])
    params, real = random_params(model), UNEVEN[3] >= 0
    found, wanted = (
        np.asarray(jax.jit(partial(form, model, given=UNEVEN))(params))[real]
        for form in (grouped, plain)
    )
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_what_stands_on_padding_changes_nothing(params):
    ids, at, tokens, positions = UNEVEN
    rng = np.random.default_rng(9)
    other = np.where(at < 0, rng.integers(0, VOCAB, at.shape), ids).astype(np.int32)
    rubbish = np.where(positions < 0, rng.integers(0, VOCAB, tokens.shape), tokens)
    changed = (other, at, rubbish.astype(np.int32), positions)
    found, wanted = (
        np.asarray(grouped(MODEL, params, x))[positions >= 0] for x in (changed, UNEVEN)
    )
    np.testing.assert_array_equal(found, wanted)


def test_a_completion_does_not_see_another(params):
    """Nor does the prompt see any: their own states stay when another completion changes."""
    ids, at, tokens, positions = UNEVEN
    changed = tokens.copy()
    changed[:, 1] = (changed[:, 1] + 1) % VOCAB
    a, b = (np.asarray(grouped(MODEL, params, (ids, at, x, positions))) for x in (tokens, changed))
    np.testing.assert_array_equal(a[:, [0, 2]], b[:, [0, 2]])
    assert (a[:, 1, 1:] != b[:, 1, 1:]).any()


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 4, 1), (2, 2, 2)])
def test_a_mesh_changes_nothing(params, shape):
    wanted = graded(lambda p: grouped(MODEL, p, UNEVEN), params, UNEVEN)
    mesh = make_mesh(MeshConfig(*shape), jax.devices()[: int(np.prod(shape))])
    with jax.set_mesh(mesh):
        same(graded(lambda p: grouped(MODEL, p, UNEVEN), params, UNEVEN), wanted)


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["attention", "dots", "full"])
def test_what_is_made_again_changes_no_gradient(params, remat):
    wanted = graded(lambda p: grouped(MODEL, p, UNEVEN), params, UNEVEN)
    same(graded(lambda p: grouped(MODEL, p, UNEVEN, remat), params, UNEVEN), wanted, 1e-6)


@pytest.mark.slow
def test_bf16_differs_by_its_rounding(params):
    low = Model(CONFIG, dtype="bfloat16")
    real = UNEVEN[3] >= 0
    wanted = np.asarray(grouped(MODEL, params, UNEVEN))[real]
    scale = np.abs(wanted).mean()
    for states in (partial(plain, low), partial(grouped, low)):
        found = np.asarray(states(params, UNEVEN), np.float32)[real]
        assert np.abs(found - wanted).mean() < 0.03 * scale
