"""What must hold of Gemma-2 whatever transformers does: sizes, scan, masks, packing, dtypes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from grm_jax.models.attention import attention, causal_mask
from grm_jax.models.config import PRESETS, Gemma2Config
from grm_jax.models.layers import Block, rms_norm
from grm_jax.models.model import Model
from grm_jax.models.transformer import embed

CONFIG = Gemma2Config(61, 4, 32, 48, 4, 2, 16, 24.0, sliding_window=6, attn_logit_softcap=5.0)
MODEL = Model(CONFIG)


@pytest.fixture(scope="module")
def params():
    """Random weights large enough that attention is far from uniform, norms included."""
    return jax.tree.map(
        lambda leaf, key: 0.3 * jax.random.normal(key, leaf.shape),
        MODEL.abstract(),
        key_tree(MODEL.abstract()),
    )


def key_tree(tree):
    leaves, structure = jax.tree.flatten(tree)
    return structure.unflatten(list(jax.random.split(jax.random.key(0), len(leaves))))


@partial(jax.jit, static_argnums=0, static_argnames="remat")
def hidden(model, params, tokens, positions, segments=None, remat="none"):
    return model.hidden(params, tokens, positions, segments, remat=remat)


def tokens_of(*shape, seed=0):
    return np.random.default_rng(seed).integers(1, CONFIG.vocab_size, shape, np.int32)


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("2b", 2_614_341_888),
        ("9b", 9_241_705_984),
        ("27b", 27_227_128_320),
        ("gemma3-270m", 268_098_176),
        ("gemma3-1b", 999_885_952),
        ("gemma3-27b", 27_009_346_304),
        ("qwen3-0.6b", 596_049_920),
        ("qwen3-8b", 8_190_735_360),
        ("qwen3-32b", 32_762_123_264),
        ("qwen2.5-0.5b", 494_032_768),
        ("qwen2.5-7b", 7_615_616_512),
        ("qwen2.5-72b", 72_706_203_648),
        ("deepseek-v2-lite", 15_706_484_224),
        ("deepseek-v2.5", 235_741_434_880),
        ("deepseek-v3", 671_026_419_200),
        ("llama-1b", 1_235_814_400),
        ("llama-3b", 3_212_749_824),
        ("llama-8b", 8_030_261_248),
        ("llama-70b", 70_553_706_496),
    ],
)
def test_published_sizes_have_their_number_of_weights(name, count):
    model = Model(PRESETS[name])
    assert model.num_params() == count
    spec = model.spec
    head = 0 if spec.tied else spec.vocab_size * spec.embed_dim
    assert model.as_head("scalar").num_params() == count - head + spec.embed_dim
    assert jax.tree.structure(model.abstract()) == jax.tree.structure(
        model.axes(), is_leaf=lambda node: isinstance(node, tuple)
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_layers": 5}, "num_layers is 5.*even"),
        ({"num_kv_heads": 3}, "multiple of num_kv_heads"),
        ({"head_dim": 15}, "head_dim is 15"),
        ({"sliding_window": 0}, "sliding_window is 0"),
    ],
)
def test_numbers_that_no_gemma_has_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        replace(CONFIG, **changes)


@pytest.mark.slow
def test_scan_equals_a_loop_over_layers(params):
    tokens, positions = tokens_of(2, 15), np.tile(np.arange(15, dtype=np.int32), (2, 1))
    spec = CONFIG.spec
    x = embed(spec, params, jnp.asarray(tokens), "float32")
    for layer in range(CONFIG.num_layers):
        make = partial(Block, spec, spec.layers[layer], "float32")
        graph, _ = nnx.split(nnx.eval_shape(lambda make=make: make(nnx.Rngs(0))))
        window = CONFIG.sliding_window if layer % 2 == 0 else None
        mask = causal_mask(jnp.asarray(positions), window)
        block = params["pairs"]["global" if layer % 2 else "local"]
        weights = jax.tree.map(lambda leaf, pair=layer // 2: leaf[pair], block)
        attend = partial(attention, mask=mask, softcap=CONFIG.attn_logit_softcap)
        x = nnx.merge(graph, weights)(x, jnp.asarray(positions), attend)
    looped = rms_norm(x, params["final_norm"], spec.norm)
    close(hidden(MODEL, params, tokens, positions), looped)


def test_padding_may_stand_anywhere(params):
    """Before, after and between the tokens: the real ones do not notice."""
    tokens, plain = tokens_of(1, 12), np.arange(12, dtype=np.int32)[None]
    expected = hidden(MODEL, params, tokens, plain)[0]
    at = np.array([2, 3, 4, 6, 7, 8, 11, 12, 13, 14, 17, 18])
    for seed in (1, 2):
        wide, positions = tokens_of(1, 20, seed=seed), np.full((1, 20), -1, np.int32)
        wide[0, at], positions[0, at] = tokens, plain
        close(hidden(MODEL, params, wide, positions)[0, at], expected)


@pytest.mark.slow
def test_packed_rows_equal_separate_rows(params):
    lengths = [9, 4, 7]
    tokens = tokens_of(1, 22)
    positions = np.concatenate([np.arange(n, dtype=np.int32) for n in lengths] + [[-1, -1]])
    segments = np.repeat([1, 2, 3, 0], [*lengths, 2]).astype(np.int32)
    packed = hidden(MODEL, params, tokens, positions[None].astype(np.int32), segments[None])[0]
    start = 0
    for n in lengths:
        alone = hidden(
            MODEL,
            params,
            tokens[:, start : start + n],
            positions[None, start : start + n].astype(np.int32),
        )
        close(packed[start : start + n], alone[0])
        start += n


def test_a_token_sees_what_came_before_and_nothing_after(params):
    tokens, positions = tokens_of(1, 10), np.arange(10, dtype=np.int32)[None]
    other = tokens.copy()
    other[0, 6] = other[0, 6] % 60 + 1
    one, two = (np.asarray(hidden(MODEL, params, t, positions))[0] for t in (tokens, other))
    close(one[:6], two[:6])
    assert (np.abs(one[6:] - two[6:]).max(axis=-1) > 1e-3).all()


def test_window_by_hand():
    """Position 5 with a window of 3 sees 3, 4, 5: itself counts."""
    mask = causal_mask(jnp.arange(7)[None], 3)[0]
    assert np.flatnonzero(mask[5]).tolist() == [3, 4, 5]
    assert np.flatnonzero(causal_mask(jnp.arange(7)[None])[0, 5]).tolist() == list(range(6))


def test_padding_gives_no_nan_forward_or_backward(params):
    tokens = tokens_of(2, 8)
    positions = np.stack([np.arange(8), np.full(8, -1)]).astype(np.int32)  # a row of padding alone

    def total(params):
        return jnp.where(
            positions[..., None] >= 0, hidden(MODEL, params, tokens, positions), 0
        ).sum()

    value, gradient = jax.value_and_grad(total)(params)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["attention", "dots", "full"])
def test_remat_changes_no_gradient(params, remat):
    tokens, positions = tokens_of(2, 9), np.tile(np.arange(9, dtype=np.int32), (2, 1))

    def gradient(remat):
        loss = lambda p: jnp.square(hidden(MODEL, p, tokens, positions, remat=remat)[:, -1]).sum()  # noqa: E731
        return jax.grad(loss)(params)

    leaves = (jax.tree.leaves(gradient(r)) for r in (remat, "none"))
    for ours, theirs in zip(*leaves, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


def test_bfloat16_is_near_float32(params):
    """bfloat16 keeps 8 bits: a few per cent after four layers, and more would be a fault."""
    tokens, positions = tokens_of(2, 15), np.tile(np.arange(15, dtype=np.int32), (2, 1))
    narrow = Model(CONFIG, "lm", "bfloat16", "bfloat16")
    rounded = jax.tree.map(lambda leaf: leaf.astype("bfloat16"), params)
    x = hidden(narrow, rounded, tokens, positions)
    assert x.dtype == jnp.bfloat16
    logits = narrow.logits(rounded, x)
    assert logits.dtype == jnp.float32
    exact = jax.tree.map(lambda leaf: leaf.astype("float32"), rounded)
    expected = hidden(MODEL, exact, tokens, positions)
    error = np.abs(np.asarray(x, np.float32) - expected)
    size = float(np.sqrt(np.mean(np.square(expected))))
    assert error.mean() < 0.03 * size
    assert np.abs(logits - MODEL.logits(exact, expected)).mean() < 0.05 * CONFIG.final_logit_softcap


def test_random_weights_are_harmless():
    """Init: matrices of 0.02, norms at 1, and no logit that soft caps would have to hold."""
    params = jax.jit(Model(CONFIG, "scalar", param_dtype="bfloat16").init)(jax.random.key(1))
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(params))
    assert float(jnp.std(params["pairs"]["local"]["gate"].astype("float32"))) == pytest.approx(
        0.02, rel=0.1
    )
    assert not params["pairs"]["global"]["post_mlp_norm"].any()
    assert params["score"].shape == (1, CONFIG.embed_dim)
    pairs = params["pairs"]["local"]["q"]
    assert not jnp.array_equal(pairs[0], pairs[1])
