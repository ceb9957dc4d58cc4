"""Every other family here equals transformers' own, live; `test_conformance.py` is Gemma-2's."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from grm_jax.models import transformer
from grm_jax.models.hf import load_folder, save_folder
from grm_jax.models.spec import Experts, Norm
from tests.cached import through_caches
from tests.models.conftest import randomise

TOLERANCE = 1e-4
WINDOW = 8
SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
# Wavelengths here are 6, 17, 46, .. positions: some of every kind for each scaling.
BASE = {"rope_theta": 3000.0}
PLAIN = {"rope_type": "default", **BASE}
LINEAR = {"rope_type": "linear", "factor": 4.0, **BASE}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, **BASE}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
    **BASE,
}
NEAR = {"rope_type": "default", "rope_theta": 100.0}
LATENT = {
    "num_hidden_layers": 3,
    "num_key_value_heads": 4,
    "first_k_dense_replace": 1,
    "q_lora_rank": 14,
    "kv_lora_rank": 12,
    "qk_nope_head_dim": 10,
    "qk_rope_head_dim": 8,
    "head_dim": 8,
    "v_head_dim": 6,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "n_shared_experts": 2,
    "moe_intermediate_size": 20,
    "n_group": 4,
    "topk_group": 2,
}


def gemma3(layers, rope, **others):
    ropes = {"full_attention": rope, "sliding_attention": NEAR}
    changes = {"num_hidden_layers": layers, "sliding_window": WINDOW, "rope_parameters": ropes}
    return "Gemma3Text", changes | {"query_pre_attn_scalar": 24} | others


def qwen2(full, **others):
    windows = {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": full}
    return "Qwen2", windows | {"rope_parameters": YARN} | others


def deepseek(version, mscale, mscale_all_dim, **others):
    rope = YARN | {"mscale": mscale, "mscale_all_dim": mscale_all_dim}
    return f"DeepseekV{version}", LATENT | {"rope_parameters": rope} | others


GROUPS = {"topk_method": "group_limited_greedy", "routed_scaling_factor": 4.0}
EVERY_THIRD = ["sliding_attention", "sliding_attention", "full_attention"]
CASES = {
    "qwen3": ("Qwen3", {"rope_parameters": PLAIN}),
    "qwen3, yarn, tied": ("Qwen3", {"rope_parameters": YARN, "tie_word_embeddings": True}),
    "qwen3, linear, one kv head": ("Qwen3", {"rope_parameters": LINEAR, "num_key_value_heads": 1}),
    "qwen2.5": ("Qwen2", {"rope_parameters": PLAIN}),
    "qwen2.5, a window": qwen2(1),
    "qwen2.5, windows alone, tied": qwen2(0, tie_word_embeddings=True),
    "llama 3": ("Llama", {"rope_parameters": LLAMA3}),
    "llama 3, tied": ("Llama", {"rope_parameters": LLAMA3, "tie_word_embeddings": True}),
    "llama 2": ("Llama", {"rope_parameters": PLAIN, "head_dim": None, "num_key_value_heads": None}),
    "gemma 3": gemma3(8, LINEAR),
    "gemma 3, a tail alone": gemma3(2, PLAIN),
    "gemma 3, every third": gemma3(4, LINEAR, layer_types=[*EVERY_THIRD, "sliding_attention"]),
    "deepseek v2 lite": deepseek(2, 0.707, 0.707, q_lora_rank=None),
    "deepseek v2": deepseek(2, 1.0, 0.707, **GROUPS),
    "deepseek v2, no dense layer": deepseek(2, 1.0, 1.0, first_k_dense_replace=0, **GROUPS),
    "deepseek v3": deepseek(3, 1.0, 1.0),
    "deepseek v3, plain": deepseek(
        3,
        0,
        0,
        rope_parameters=PLAIN,
        rope_interleave=False,
        q_lora_rank=None,
        norm_topk_prob=False,
        n_group=2,
        topk_group=1,
    ),
    "deepseek v3, dense alone": deepseek(
        3, 1.0, 0.5, first_k_dense_replace=3, n_group=1, topk_group=1
    ),
}
ONE_OF_EACH = [
    "qwen3",
    "qwen2.5, a window",
    "llama 3",
    "gemma 3, every third",
    "deepseek v2",
    "deepseek v3",
]
CACHED = ["qwen3, yarn, tied", "qwen2.5, a window", "llama 3", "gemma 3, every third"]
CACHED += ["deepseek v2 lite", "deepseek v3"]
cases = pytest.mark.parametrize("case", CASES)


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """make(case, scalar=False) -> transformers' model and its folder; each is made once."""
    made = {}

    def one(case, *, scalar=False):
        if (case, scalar) not in made:
            family, changes = CASES[case]
            settings = getattr(transformers, f"{family}Config")(
                **{**SIZES, **changes, **({"num_labels": 1} if scalar else {})},
                attn_implementation="eager",
            )
            head = "ForSequenceClassification" if scalar else "ForCausalLM"
            family = family if scalar else family.removesuffix("Text")
            module = getattr(transformers, family + head)(settings).eval()
            randomise(module, seed=0)
            for name, buffer in module.named_buffers():
                if name.endswith("e_score_correction_bias"):
                    buffer.copy_(0.3 * torch.randn(len(buffer), generator=torch.Generator()))
            folder = tmp_path_factory.mktemp("family")
            module.save_pretrained(folder)
            made[case, scalar] = module, folder
        return made[case, scalar]

    return one


@partial(jax.jit, static_argnums=0)
def forward(spec, params, tokens, positions):
    hidden = transformer.hidden(spec, params, tokens, positions, dtype="float32")
    return hidden, transformer.logits(spec, params, hidden)


@cases
@pytest.mark.parametrize("padding", ["right", "left"])
def test_hidden_states_and_logits(make, rows, run_hf, error_of, case, padding):
    module, folder = make(case)
    model, params = load_folder(folder)
    tokens, positions = rows([3 * WINDOW, 5, 2 * WINDOW + 3], padding)
    real = positions >= 0
    theirs = run_hf(module, tokens, positions)
    hidden, logits = forward(model.spec, params, tokens, positions)
    assert error_of(hidden[real], theirs.hidden_states[-1][real]) < TOLERANCE
    assert error_of(logits[real], theirs.logits[real]) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("case", CACHED)
def test_cached_decode_equals_a_full_forward(make, rows, run_hf, error_of, case):
    """Prompts longer and shorter than the window, two samples each, one token at a time."""
    module, folder = make(case)
    model, params = load_folder(folder)
    lengths, samples, steps = [WINDOW + 5, 3], 2, WINDOW + 3
    tokens, _ = rows(lengths)
    new = np.random.default_rng(1).integers(1, 97, (len(lengths), samples, steps), np.int32)
    last, hidden = jax.jit(partial(through_caches, model, piece=8))(
        params, tokens[None], jnp.asarray([lengths]), new[None]
    )
    first = jnp.broadcast_to(last[0][:, None, None], (len(lengths), samples, 1, last.shape[-1]))
    ours = model.logits(params, jnp.concatenate([first, hidden[0]], axis=2))
    for row, length in enumerate(lengths):
        prompt = np.tile(tokens[row, :length], (samples, 1))
        whole = np.concatenate([prompt, new[row]], axis=1, dtype=np.int32)
        at = np.tile(np.arange(whole.shape[1], dtype=np.int32), (samples, 1))
        theirs = run_hf(module, whole, at).logits[:, length - 1 :]
        assert error_of(ours[row], theirs) < TOLERANCE


@pytest.mark.parametrize("case", ONE_OF_EACH)
def test_scalar_head(make, rows, run_hf, error_of, case):
    module, folder = make(case, scalar=True)
    model, params = load_folder(folder)
    assert model.head == "scalar"
    tokens, positions = rows([2 * WINDOW, 5, 1, WINDOW], "left")
    hidden = jax.jit(model.hidden)(params, tokens, positions)
    ours = model.score(params, hidden, jnp.asarray(positions))
    assert error_of(ours, run_hf(module, tokens, positions).logits[:, 0]) < TOLERANCE


@pytest.mark.parametrize(
    ("case", "scalar"), [(case, False) for case in CASES] + [(case, True) for case in ONE_OF_EACH]
)
def test_a_folder_comes_back_as_it_was(make, tmp_path, case, scalar):
    """Ours and transformers' read the export: the same config, and the same bits."""
    module, folder = make(case, scalar=scalar)
    model, params = load_folder(folder)
    save_folder(model, params, tmp_path / "out")
    assert load_folder(tmp_path / "out")[0] == model
    again = type(module).from_pretrained(tmp_path / "out", attn_implementation="eager")
    mine, theirs = again.state_dict(), module.state_dict()
    assert mine.keys() == theirs.keys()
    for name, weight in theirs.items():
        assert torch.equal(mine[name], weight), name
    for phases in ("inv_freq", "full_attention_inv_freq", "sliding_attention_inv_freq"):
        if hasattr(module.model.rotary_emb, phases):
            found = getattr(again.model.rotary_emb, phases)
            assert torch.equal(found, getattr(module.model.rotary_emb, phases))


def test_the_text_of_a_gemma_of_several_modalities(make, tmp_path):
    """The names that the hub has, and those that transformers 5 writes; images are left out."""
    _, folder = make("gemma 3")
    model, params = load_folder(folder)
    text = transformers.AutoConfig.from_pretrained(folder).to_dict()
    vision = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    whole = transformers.Gemma3Config(
        text_config=text, vision_config=vision | {"image_size": 8, "patch_size": 8},
        architectures=["Gemma3ForConditionalGeneration"],
    )  # fmt: skip
    stored = load_file(folder / "model.safetensors")
    for prefix in ("language_model.model.", "model.language_model."):
        whole.save_pretrained(tmp_path)
        tensors = {prefix + name.removeprefix("model."): x for name, x in stored.items()}
        tensors["vision_tower.vision_model.post_layernorm.weight"] = torch.ones(8)
        save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
        found, weights = load_folder(tmp_path)
        assert found == model
        assert jax.tree.all(jax.tree.map(np.array_equal, weights, params))


def changed(spec, change):
    """A spec with every layer changed."""
    segments = tuple(
        replace(segment, period=tuple((name, change(layer)) for name, layer in segment.period))
        for segment in spec.segments
    )
    return replace(spec, segments=segments)


def attention(**numbers):
    """A change of every layer's attention; a number may be a function of what it was."""

    def change(layer):
        a = layer.attention
        new = {k: v(getattr(a, k)) if callable(v) else v for k, v in numbers.items()}
        return replace(layer, attention=replace(a, **new))

    return partial(changed, change=change)


def mlp(layer):
    other = {"silu": "gelu_tanh", "gelu_tanh": "silu"}[layer.mlp.activation]
    return replace(layer, mlp=replace(layer.mlp, activation=other))


def needed(spec, params):
    """Those of the weights that a spec has."""
    names = transformer.axes(spec, "lm")
    return {
        key: {
            layer: {name: weights[name] for name in names[key][layer]}
            for layer, weights in part.items()
        }
        if isinstance(part, dict)
        else part
        for key, part in params.items()
    }


DEFECTS = {
    "other rotary base": attention(rope=lambda rope: replace(rope, base=10_000.0)),
    "no scaling": attention(rope=lambda rope: replace(rope, scaling=None)),
    "queries not scaled": attention(query_scale=1.0),
    "queries and keys not normed": attention(qk_norm=False),
    "window one longer": attention(window=lambda window: window and window + 1),
    "other activation": partial(changed, change=mlp),
    "norms from one, or not": lambda spec: replace(
        spec, norm=Norm(spec.norm.eps, not spec.norm.from_one)
    ),
    "embeddings not scaled": lambda spec: replace(spec, embed_scale=None),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_comparison_sees(make, rows, run_hf, error_of, defect):
    """A spec that is wrong in one thing is far from transformers: the tests above can fail."""
    module, folder = make("gemma 3, every third")
    model, params = load_folder(folder)
    tokens, positions = rows([2 * WINDOW + 3])
    theirs = run_hf(module, tokens, positions).logits
    spec = DEFECTS[defect](model.spec)
    _, logits = forward(spec, needed(spec, params), tokens, positions)
    assert error_of(logits, theirs) > 20 * TOLERANCE


def gate(**numbers):
    """A change of the gate of every layer that has one."""

    def change(layer):
        if not isinstance(layer.mlp, Experts):
            return layer
        return replace(layer, mlp=replace(layer.mlp, gate=replace(layer.mlp.gate, **numbers)))

    return partial(changed, change=change)


SPECS = {
    "neighbours taken for halves": attention(interleaved=False),
    "queries scaled without mscale": attention(query_scale=18**-0.5),
    "latent vectors normed as the trunk": attention(norm_eps=1e-2),
    "all groups": gate(groups=1, top_groups=1),
    "a group by its best expert": gate(group_best=1),
    "weights not normalized": gate(normalized=False),
    "softmax for sigmoid": gate(score="softmax"),
}
WEIGHTS = {
    "no correction of the choice": ("router_bias", 0.0),
    "weights of the routed not scaled": ("experts_down", 1 / 2.5),
    "no shared expert": ("shared_down", 0.0),
}


@pytest.mark.parametrize("defect", [*SPECS, *WEIGHTS])
def test_the_comparison_sees_latents_and_experts(make, rows, run_hf, error_of, defect):
    module, folder = make("deepseek v3")
    model, params = load_folder(folder)
    tokens, positions = rows([3 * WINDOW, 5, 2 * WINDOW + 3], "right")
    theirs = run_hf(module, tokens, positions).logits
    spec = model.spec
    if defect in WEIGHTS:
        name, factor = WEIGHTS[defect]
        mixed = params["expert_layers"]["mixed"]
        params["expert_layers"]["mixed"] = mixed | {name: mixed[name] * factor}
    else:
        spec = SPECS[defect](spec)
    _, logits = forward(spec, params, tokens, positions)
    real = positions >= 0
    assert error_of(logits[real], theirs[real]) > 20 * TOLERANCE
