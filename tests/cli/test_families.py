"""Each family from the command line: a judge, an evaluation, a step of RFT and one of GRPO.

The models are random. So that they say something that can be read, their vocabularies hold whole
score lines: a sample ends with one by chance.
"""

from __future__ import annotations

import json
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
import yaml

from grm_jax.cli import main
from grm_jax.models.hf import load_folder
from grm_jax.presets import bundled
from grm_jax.text.messages import Message
from grm_jax.text.tokenizer import Tokenizer
from tests.devices import one_device
from tests.text.families import FAMILIES, write_words

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 512,
}
LATENT = {
    "num_key_value_heads": 2,
    "head_dim": 8,
    "first_k_dense_replace": 1,
    "q_lora_rank": 12,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "moe_intermediate_size": 16,
    "n_group": 4,
    "topk_group": 2,
}
# transformers' name of a family, and what its config has of its own.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma2": ("Gemma2", {"query_pre_attn_scalar": 16, "sliding_window": 64}),
    "gemma3": ("Gemma3Text", {"query_pre_attn_scalar": 16, "sliding_window": 64}),
    "qwen3": ("Qwen3", {}),
    "qwen2": ("Qwen2", {}),
    "llama": ("Llama", {}),
    "deepseek_v2": ("DeepseekV2", LATENT | {"topk_method": "group_limited_greedy"}),
    "deepseek_v3": ("DeepseekV3", LATENT),
}
SCORES = [f"\nScores: \\boxed{{{a}, {b}}}" for a, b in product(range(1, 11), repeat=2)]
ROWS = [
    {"id": str(a), "prompt": f"What is {a}+1?", "responses": [str(a + 1), str(a)], "label": 0}
    for a in range(8)
]
SAMPLING = {"strategy": {"temperature": 1.0}, "max_new_tokens": 4, "slots": 8}
STEP = {"optimizer": {"learning_rate": 1e-3}, "export": {"max_new_tokens": 4}}
RFT = {"judge": SAMPLING, "steps": 1, "batch": {"sequences": 2, "length": 256}, **STEP}
GRPO = {"filter": {"n": 0}, "per_step": 16, "steps": 1, **SAMPLING, **STEP}


@pytest.fixture(autouse=True)
def one():
    with one_device():
        yield


def make_folder(name: str, folder: Path) -> Path:
    """A random model of the family, with the family's own turns."""
    write_words(FAMILIES[name], folder, SCORES)
    stops = json.loads((folder / "generation_config.json").read_text())
    tokenizer = Tokenizer.load(folder)
    title, changes = MODELS[name]
    ids = {"pad_token_id": tokenizer.pad_id, "bos_token_id": tokenizer.bos_id} | stops
    config = getattr(transformers, f"{title}Config")(
        vocab_size=tokenizer.vocab_size, **(SIZES | changes | ids)
    )
    torch.manual_seed(0)
    getattr(transformers, f"{title.removesuffix('Text')}ForCausalLM")(config).save_pretrained(
        folder
    )
    shutil.copytree(bundled("tiny") / "templates", folder / "templates")
    return folder


def options(settings: dict[str, Any], path: Path) -> list[str]:
    path.write_text(yaml.safe_dump(settings))
    return ["--config", str(path)]


# A minute of a core each: CI runs one, `-m big` all.
@pytest.mark.parametrize(
    "name",
    [pytest.param(x, marks=pytest.mark.slow if x == "qwen3" else pytest.mark.big) for x in MODELS],
)
def test_a_family_judges_and_is_trained(name, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    family = FAMILIES[name]
    folder = make_folder(name, tmp_path / "start")
    Path("rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    chat = {"chat": family.arguments} if family.arguments else {}
    asked = options({"model": str(folder), "k": 4, **SAMPLING, **chat}, tmp_path / "judge.yaml")

    assert main(["judge", *asked, "--input", "rows.jsonl", "--output", "verdicts.jsonl"]) == 0
    verdicts = [json.loads(line) for line in Path("verdicts.jsonl").read_text().splitlines()]
    assert len(verdicts) == len(ROWS)
    assert sum(verdict.get("valid", 0) for verdict in verdicts) > 4
    assert main(["eval", *asked, "--data", "rows.jsonl", "--unanswered", "1", "--output", "e"]) == 0
    assert json.loads(Path("e/report.json").read_text())["votes"]

    run = {"start": str(folder), "items": [{"source": "rows.jsonl"}], **chat}
    for stage, settings in (("rft", RFT), ("grpo", GRPO)):
        told = options({"output": stage, **run, **settings}, tmp_path / f"{stage}.yaml")
        assert main(["train", stage, *told]) == 0
        check_export(tmp_path / stage / "model", folder, family.arguments)
        run["start"] = f"{stage}/model"  # its grm.json keeps the arguments
        run.pop("chat", None)


def check_export(folder: Path, start: Path, arguments: dict[str, Any]) -> None:
    """transformers reads the exported folder as we do: logits, template, tokens, ends."""
    for path in (start / "tokenizer_config.json", start / "chat_template.jinja"):
        assert not path.exists() or (folder / path.name).read_bytes() == path.read_bytes()
    ours = Tokenizer.load(folder)
    settings = json.loads((folder / "grm.json").read_text())
    assert settings.get("chat", {}) == arguments
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    turns = [{"role": "user", "content": "What is 1+1?"}]
    ids = theirs.apply_chat_template(turns, add_generation_prompt=True, **arguments)["input_ids"]
    with_arguments = Tokenizer.load(folder, arguments)
    assert with_arguments.encode_chat([Message("user", "What is 1+1?")]) == list(ids)
    generation = transformers.GenerationConfig.from_pretrained(folder)
    assert generation.eos_token_id == list(ours.stop_ids)
    module = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    with torch.no_grad():
        expected = module(torch.tensor([list(ids)])).logits[0].numpy()
    model, params = load_folder(folder, dtype="float32")
    tokens = jnp.asarray([ids], jnp.int32)
    positions = jnp.arange(len(ids), dtype=jnp.int32)[None]
    found = model.logits(params, model.hidden(params, tokens, positions))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
