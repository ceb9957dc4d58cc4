"""Two pretrained models as GGUF files continue text as `transformers` does from the same files."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import tokenizers
import torch
import transformers

from grm_jax.models.hf import load_folder
from grm_jax.sampling.request import Request
from grm_jax.sampling.sampler import Sampler
from grm_jax.sampling.strategy import Strategy
from grm_jax.text.gguf_tokenizer import read_gguf_tokenizer
from tests.real_models import MODELS, real_model

pytest.importorskip("gguf")

from tests.gguf_files import by_transformers

pytestmark = pytest.mark.big

NEW = 50
PROMPTS = [
    "The capital of France is",
    "Question: a farmer has 17 sheep, and all but 9 run away. How many are left?\nAnswer:",
    "def is_prime(n):\n    ",
]
CHAT = (
    "<|im_start|>user\nWhich answer is better, and why? A: The sun is a star. B: The sun is a "
    "planet.<|im_end|>\n<|im_start|>assistant\n"
)


@pytest.mark.parametrize("name", MODELS)
def test_the_same_fifty_greedy_tokens(name):
    path = real_model(name)
    words = read_gguf_tokenizer(path)
    encode = tokenizers.Tokenizer.from_buffer(words.json).encode
    texts = [*PROMPTS[:2], CHAT if "chat_template" in words.config else PROMPTS[2]]
    prompts = [encode(text, add_special_tokens=False).ids for text in texts]
    if words.config.get("add_bos_token"):
        prompts = [[encode(words.config["bos_token"]).ids[0], *ids] for ids in prompts]
    theirs = continued_by_transformers(path, prompts)
    model, params = load_folder(path)
    greedy = Strategy(temperature=0.0)
    sampler = Sampler(model, params, [], greedy, max_new_tokens=NEW, slots=len(prompts))
    asked = [Request(ids, i, (0,), i) for i, ids in enumerate(prompts)]
    ours = {done.request.tag: done.tokens for done in sampler(asked)}
    for i, tokens in enumerate(theirs):
        np.testing.assert_array_equal(ours[i], tokens, texts[i])


def continued_by_transformers(path, prompts):
    module = by_transformers(path)
    module.generation_config.eos_token_id = None  # it goes on, as ours does without stop ids
    found = []
    for ids in prompts:
        with torch.no_grad():
            made = module.generate(
                torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                do_sample=False,
                max_new_tokens=NEW,
                pad_token_id=0,
            )
        found.append(made[0, len(ids) :].numpy())
    del module
    gc.collect()
    return found


@pytest.mark.parametrize("name", MODELS)
def test_texts_have_the_ids_that_transformers_gives_them(name, shared_data):
    """But for spaces before a digit, which SmolLM2's own tokenizer keeps together: transformers
    5.23 reads its file as if it were GPT-2's."""
    path = real_model(name)
    ours = tokenizers.Tokenizer.from_buffer(read_gguf_tokenizer(path).json)
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(path.parent, gguf_file=path.name)
    lines = (shared_data / "gsm8k" / "train.jsonl").read_text().splitlines()[:300]
    lines += (shared_data / "ifeval" / "input_data.jsonl").read_text().splitlines()[:300]
    for line in [*lines, *PROMPTS, "Ünï ¿? 你好\t\n\n  x"]:
        if "SmolLM2" in name:
            line = "".join(c for c in line if not c.isdigit())
        assert ours.encode(line).ids == theirs.encode(line, add_special_tokens=False)
