"""DeepSeek's folders: what is refused, what is left out, and what stays in f32."""

import json
from dataclasses import asdict, replace

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from grm_jax.models.config import PRESETS, from_saved
from grm_jax.models.decoding_layers import split_layers
from grm_jax.models.hf import load_folder, save_folder
from grm_jax.models.hf_config import config_from_hf, config_to_hf
from tests.test_sharding import LATENT, random_params

FP8 = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}


@pytest.mark.parametrize(
    ("preset", "changes", "words"),
    [
        ("deepseek-v3", {"quantization_config": FP8}, "fp8.*fp8_cast_bf16.py makes bfloat16"),
        ("deepseek-v3", {"num_key_value_heads": 8}, "num_key_value_heads is 8, but latent"),
        ("deepseek-v3", {"scoring_func": "softmax"}, "scoring_func is 'softmax'"),
        ("deepseek-v3", {"num_experts_per_tok": 200}, "only 128 experts to choose from"),
        ("deepseek-v3", {"n_group": 7}, "config.json: n_routed_experts .256. must be a multiple"),
        ("deepseek-v3", {"first_k_dense_replace": 62}, "only 61 layers"),
        ("deepseek-v3", {"first_k_dense_replace": -1}, "whole number, 0 or more, but is -1"),
        ("deepseek-v2-lite", {"topk_method": "noaux_tc"}, "topk_method is 'noaux_tc'"),
        ("deepseek-v2-lite", {"norm_topk_prob": True}, "norm_topk_prob is True"),
        ("deepseek-v2-lite", {"moe_layer_freq": 2}, "moe_layer_freq is 2"),
        ("deepseek-v2-lite", {"qk_rope_head_dim": 7}, "qk_rope_head_dim is 7"),
    ],
)
def test_what_is_not_computed_is_refused(tmp_path, preset, changes, words):
    content = config_to_hf(PRESETS[preset], "lm", "bfloat16") | changes
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=words):
        config_from_hf(tmp_path)


def test_scales_are_those_of_the_published_models():
    """192^-0.5 (0.1 mscale_all_dim ln(40) + 1)^2: V2-Lite has 0.707, V2.5 and V3 have 1.0."""
    scales = {"v2-lite": 0.11472, "v2.5": 0.13523, "v3": 0.13523}
    for name, scale in scales.items():
        config = PRESETS[f"deepseek-{name}"]
        assert config.query_scale == pytest.approx(scale, rel=1e-4)
        assert config.mscale == config.mscale_all_dim  # so that sine and cosine stay as they are
        assert config.rope.scaling.attention == 1.0


def test_a_saved_config_comes_back():
    for name in ("deepseek-v2-lite", "deepseek-v3", "qwen2.5-7b"):
        assert from_saved(asdict(PRESETS[name])) == PRESETS[name]


def test_the_module_that_predicts_one_more_token_is_left_out(tmp_path):
    params = random_params(LATENT)
    save_folder(LATENT, params, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.layers.61.eh_proj.weight"] = np.ones((2, 2), np.float32)
    save_file(tensors, tmp_path / "model.safetensors")
    model, found = load_folder(tmp_path)
    assert model.config == LATENT.config
    expert = tensors["model.layers.2.mlp.experts.7.up_proj.weight"]
    assert np.array_equal(found["expert_layers"]["mixed"]["experts_up"][1, 7], expert.T)


def test_the_correction_stays_in_f32():
    narrow = replace(LATENT, dtype="bfloat16", param_dtype="bfloat16")
    layer = random_params(narrow)["expert_layers"]["mixed"]
    assert layer["router_bias"].dtype == jnp.float32
    assert layer["router"].dtype == jnp.bfloat16
    (one, _) = split_layers({"expert_layers": {"mixed": layer}}, "bfloat16")["expert_layers"]
    assert one["mixed"]["router_bias"].dtype == jnp.float32
