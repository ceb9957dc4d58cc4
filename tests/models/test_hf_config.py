"""config.json: all spellings are read, and what we do not compute is refused."""

import json
from dataclasses import replace

import pytest
import torch
import transformers

from grm_jax.models.config import PRESETS
from grm_jax.models.hf import load_folder
from grm_jax.models.hf_config import config_from_hf, config_to_hf
from tests.models.folders import SMALL, edit_config


def test_spellings_of_version_4_and_5(exported):
    folder, _, _ = exported
    written = json.loads((folder / "config.json").read_text())
    assert written["torch_dtype"] == written["dtype"] == "float32"
    assert written["rope_theta"] == written["rope_parameters"]["rope_theta"] == 10_000.0
    want = (replace(SMALL, rope_theta=3000.0), "lm")
    edit_config(folder, rope_theta=3000.0, rope_parameters=..., dtype=..., layer_types=...)
    assert config_from_hf(folder) == want
    five = {"rope_type": "default", "rope_theta": 3000.0}
    edit_config(folder, rope_theta=..., rope_parameters=five, torch_dtype=..., dtype="float32")
    assert config_from_hf(folder) == want


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("head", ["lm", "scalar"])
def test_config_out_and_in(tmp_path, name, head):
    config = PRESETS[name]
    content = config_to_hf(config, head, "bfloat16")
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert config_from_hf(tmp_path) == (config, head)
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    ropes = theirs.rope_parameters
    ropes = [ropes] if "rope_theta" in ropes else list(ropes.values())
    bases = {rope["rope_theta"] for rope in ropes}
    assert bases == {layer.attention.rope.base for layer in config.spec.layers}
    assert theirs.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "mpt"}, "model_type is 'mpt', but only 'gemma2'"),
        ({"model_type": ...}, "model_type is None"),
        ({"layer_types": ["full_attention"] * 4}, "must alternate"),
        ({"layer_types": ["sliding_attention", "full_attention"]}, "over 4 layers"),
        ({"num_hidden_layers": 3, "layer_types": ...}, "num_layers is 3"),
        ({"hidden_size": ...}, "hidden_size must be a whole number, 1 or more, but is None"),
        ({"final_logit_softcapping": None}, "final_logit_softcapping is null"),
        ({"sliding_window": None}, "sliding_window is null"),
        ({"hidden_activation": "relu"}, "hidden_activation is 'relu'"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rope_type is 'yarn'"),
        ({"architectures": ["Gemma2Model"]}, "architectures is"),
        ({"architectures": ["Gemma2ForSequenceClassification"]}, "one label, but this has 2"),
        ({"architectures": "Gemma2ForCausalLM"}, "architectures is 'Gemma2ForCausalLM'"),
        ({"hidden_size": True}, "hidden_size must be a whole number, 1 or more, but is True"),
        ({"num_key_value_heads": 0}, "num_key_value_heads must be a whole number, 1 or more"),
        ({"sliding_window": "many"}, "sliding_window must be a whole number, 1 or more"),
        ({"attn_logit_softcapping": [50]}, r"attn_logit_softcapping must be a number above 0"),
        ({"rope_parameters": 7}, "rope parameters must be an object, but are 7"),
        ({"rope_parameters": {"rope_theta": "x"}}, "rope_theta must be a number above 0"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised .*'?gptq'?.*only float32"),
        ({"quantization_config": {"bits": 4}}, "quantised .*'bits': 4"),
    ],
)
def test_a_config_that_we_do_not_compute_is_refused(exported, changes, words):
    with pytest.raises(ValueError, match=words):
        load_folder(edit_config(exported[0], **changes))
