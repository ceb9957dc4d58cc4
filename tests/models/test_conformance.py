"""Gemma-2 here equals transformers' Gemma-2, live: the most valuable test in the house."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from grm_jax.models import cache as kv
from grm_jax.models.hf import load_folder
from tests.cached import through_caches

TOLERANCE = 1e-4
HEAD_DIM, WINDOW = 16, 8  # of conftest.SIZES
SCALINGS = pytest.mark.parametrize("query_scalar", [HEAD_DIM, 24], ids=["head_dim", "other"])


@partial(jax.jit, static_argnums=0)
def forward(model, params, tokens, positions):
    hidden = model.hidden(params, tokens, positions)
    return hidden, model.logits(params, hidden)


@pytest.mark.slow
@SCALINGS
@pytest.mark.parametrize("padding", ["right", "left"])
def test_hidden_states_and_logits(make_hf, rows, run_hf, error_of, query_scalar, padding):
    module, folder = make_hf(query_pre_attn_scalar=query_scalar)
    model, params = load_folder(folder)
    tokens, positions = rows([3 * WINDOW, 5, 2 * WINDOW + 3], padding)
    real = positions >= 0
    theirs = run_hf(module, tokens, positions)
    hidden, logits = forward(model, params, tokens, positions)
    assert error_of(hidden[real], theirs.hidden_states[-1][real]) < TOLERANCE
    assert error_of(logits[real], theirs.logits[real]) < TOLERANCE


def test_hidden_states_after_every_pair(make_hf, rows, run_hf, error_of):
    module, folder = make_hf(num_hidden_layers=6)
    model, params = load_folder(folder)
    tokens, positions = rows([2 * WINDOW, 7])
    real = positions >= 0
    states = run_hf(module, tokens, positions).hidden_states
    for pairs in (1, 2):
        first = {**params, "pairs": jax.tree.map(lambda leaf, n=pairs: leaf[:n], params["pairs"])}
        shorter = replace(model, config=replace(model.config, num_layers=2 * pairs))
        ours, _ = forward(shorter, first, tokens, positions)
        theirs = module.model.norm(states[2 * pairs]).detach()
        assert error_of(ours[real], theirs[real]) < TOLERANCE


def swap_layers(params):
    pairs = {"local": params["pairs"]["global"], "global": params["pairs"]["local"]}
    return {**params, "pairs": pairs}


def norms_without_one(params):
    """What a model computes that multiplies by the stored offset and forgets to add 1."""

    def change(path, leaf):
        return leaf - 1 if "norm" in path[-1].key else leaf

    return jax.tree_util.tree_map_with_path(change, params)


BREAKAGES = {
    "no window": ({"sliding_window": 10**6}, None),
    "window one longer": ({"sliding_window": WINDOW + 1}, None),
    "window one shorter": ({"sliding_window": WINDOW - 1}, None),
    "no attention cap": ({"attn_logit_softcap": 1e6}, None),
    "no final cap": ({"final_logit_softcap": 1e6}, None),
    "queries scaled by head_dim": ({"query_pre_attn_scalar": HEAD_DIM}, None),
    "other rotary base": ({"rope_theta": 10_000.0}, None),
    "other norm epsilon": ({"rms_norm_eps": 1e-6}, None),
    "norms without their one": ({}, norms_without_one),
    "local and global swapped": ({}, swap_layers),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_the_comparison_sees(make_hf, rows, run_hf, error_of, breakage):
    """A model that is wrong in one thing is far from transformers: the tests above can fail."""
    module, folder = make_hf(query_pre_attn_scalar=24)
    model, params = load_folder(folder)
    tokens, positions = rows([2 * WINDOW + 3])
    theirs = run_hf(module, tokens, positions).logits
    numbers, change = BREAKAGES[breakage]
    model = replace(model, config=replace(model.config, **numbers))
    _, logits = forward(model, change(params) if change else params, tokens, positions)
    assert error_of(logits, theirs) > 20 * TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "query_scalar", "first_length"),
    [
        (2 * WINDOW + 3, HEAD_DIM, kv.FIRST_LENGTH),
        (2 * WINDOW + 3, 24, kv.FIRST_LENGTH),
        (WINDOW - 3, 24, kv.FIRST_LENGTH),
        (WINDOW - 3, 24, 4),
    ],
    ids=["ring wraps", "ring wraps, other scaling", "ring stays open", "prompts in chunks"],
)
def test_cached_decode_equals_a_full_forward(
    make_hf, rows, run_hf, error_of, monkeypatch, query_scalar, steps, first_length
):
    """Prompts longer and shorter than the window, several samples each, one token at a time."""
    monkeypatch.setattr(kv, "FIRST_LENGTH", first_length)
    module, folder = make_hf(query_pre_attn_scalar=query_scalar)
    model, params = load_folder(folder)
    lengths, samples = [WINDOW + 5, 3, 2 * WINDOW], 2
    tokens, _ = rows(lengths)
    new = np.random.default_rng(1).integers(1, 97, (len(lengths), samples, steps), np.int32)
    last, hidden = jax.jit(partial(through_caches, model))(
        params, tokens[None], jnp.asarray([lengths]), new[None]
    )
    first = jnp.broadcast_to(last[0][:, None, None], (len(lengths), samples, 1, last.shape[-1]))
    ours = model.logits(params, jnp.concatenate([first, hidden[0]], axis=2))
    for row, length in enumerate(lengths):
        whole = np.concatenate(
            [np.tile(tokens[row, :length], (samples, 1)), new[row]], axis=1, dtype=np.int32
        )
        at = np.tile(np.arange(whole.shape[1], dtype=np.int32), (samples, 1))
        theirs = run_hf(module, whole, at).logits[:, length - 1 :]
        assert error_of(ours[row], theirs) < TOLERANCE


@SCALINGS
@pytest.mark.parametrize("padding", ["right", "left"])
def test_scalar_head(make_hf, rows, run_hf, error_of, query_scalar, padding):
    module, folder = make_hf("score", query_pre_attn_scalar=query_scalar)
    model, params = load_folder(folder)
    assert model.head == "scalar"
    tokens, positions = rows([2 * WINDOW, 5, 1, WINDOW], padding)
    hidden, _ = forward(model, params, tokens, positions)
    ours = model.score(params, hidden, jnp.asarray(positions))
    theirs = run_hf(module, tokens, positions).logits[:, 0]
    assert error_of(ours, theirs) < TOLERANCE


def test_gradient(make_hf, rows):
    """Of a loss over real tokens, padding present, against torch's."""
    module, folder = make_hf()
    model, params = load_folder(folder)
    tokens, positions = rows([2 * WINDOW, 5])
    targets = np.roll(tokens, -1, axis=1)
    real = (positions >= 0) & (targets > 0)

    def loss(params):
        _, logits = forward(model, params, tokens, positions)
        logprobs = jax.nn.log_softmax(logits)
        return -jnp.take_along_axis(logprobs, targets[..., None], -1)[real].sum()

    ours = jax.jit(jax.grad(loss))(params)
    out = module(
        input_ids=torch.tensor(tokens, dtype=torch.long),
        attention_mask=torch.tensor(positions >= 0, dtype=torch.long),
    ).logits
    module.zero_grad()
    labels = torch.tensor(targets, dtype=torch.long)
    torch.nn.functional.cross_entropy(out[real], labels[real], reduction="sum").backward()
    theirs = {
        "embed": module.model.embed_tokens.weight.grad,
        "q": module.model.layers[2].self_attn.q_proj.weight.grad.reshape(4, HEAD_DIM, 32).mT,
        "norm": module.model.layers[3].pre_feedforward_layernorm.weight.grad,
    }
    mine = {
        "embed": ours["embed"],
        "q": ours["pairs"]["local"]["q"][1],
        "norm": ours["pairs"]["global"]["pre_mlp_norm"][1],
    }
    for name, gradient in theirs.items():
        scale = float(gradient.abs().max())
        np.testing.assert_allclose(mine[name], gradient, rtol=0, atol=TOLERANCE * scale)
