"""transformers: `generate` as it is ("eager"; sdpa refuses Gemma-2's caps), and with a prompt cache
that is made once and repeated by hand ("shared"). Updates are TRL's loss."""

from __future__ import annotations

import sys
import tempfile
import time
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, Gemma2ForCausalLM

from benchmarks.peers import shape as shapes
from benchmarks.peers.protocol import Answer, serve

FOLDER = sys.argv[1]
SHAPE, _ = shapes.read_model(FOLDER)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
UPDATES: dict[tuple, Any] = {}


def load() -> Any:
    """The model with its weights as they are stored."""
    dtype = getattr(torch, SHAPE.dtype)
    model = Gemma2ForCausalLM.from_pretrained(FOLDER, attn_implementation="eager", dtype=dtype)
    return model.to(DEVICE)


MODEL = load().eval()


def ids(length: int, seed: int = 0) -> Any:
    """[1, P]."""
    tokens = shapes.prompt(SHAPE, length, seed).astype(np.int64)
    return torch.from_numpy(tokens)[None].to(DEVICE)


@torch.inference_mode()
def logits(prompt: int) -> Answer:
    """Of the token after the prompt."""
    return {"logits": MODEL(ids(prompt)).logits[0, -1].float().cpu().tolist()}


@torch.inference_mode()
def sample(way: str, k: int, prompt: int, new: int, seed: int) -> Answer:
    """k samples of the prompt."""
    torch.manual_seed(seed)
    tokens = ids(prompt, seed)
    settings: dict[str, Any] = {
        "min_new_tokens": new,
        "max_new_tokens": new,
        "do_sample": True,
        "temperature": shapes.TEMPERATURE,
        "top_k": 0,
        "top_p": 1.0,
    }
    start = time.perf_counter()
    if way == "shared":
        cache = DynamicCache(config=MODEL.config)
        MODEL(tokens[:, :-1], use_cache=True, past_key_values=cache, logits_to_keep=1)
        cache.batch_repeat_interleave(k)
        tokens = tokens.expand(k, -1)
        settings["past_key_values"] = cache
    else:
        settings["num_return_sequences"] = k
    drawn = MODEL.generate(tokens, attention_mask=torch.ones_like(tokens), **settings)
    drawn = drawn[:, prompt:].cpu()
    seconds = time.perf_counter() - start
    assert drawn.shape == (k, new)
    return {"seconds": seconds, "different": len(torch.unique(drawn, dim=0))}


class SFT:
    """transformers' own loss."""

    def __init__(self, batch: shapes.Batch):
        self.model = load().train()
        self.model.gradient_checkpointing_enable({"use_reentrant": False})
        self.rows = torch.from_numpy(batch.rows.astype(np.int64)).to(DEVICE)

    def loss(self) -> Any:
        """Mean negative log-likelihood of all tokens but the first."""
        return self.model(input_ids=self.rows, labels=self.rows, use_cache=False).loss


class GRPO:
    """`GRPOTrainer.compute_loss`, with the completions as given."""

    def __init__(self, batch: shapes.Batch):
        from datasets import Dataset
        from trl import GRPOConfig, GRPOTrainer

        group, new = batch.completions.shape[1:]
        settings = GRPOConfig(
            output_dir=tempfile.mkdtemp(),
            per_device_train_batch_size=len(batch.answers),
            num_generations=group,
            max_completion_length=new,
            beta=0.04,
            loss_type="grpo",
            use_cpu=DEVICE == "cpu",
            report_to=[],
            gradient_checkpointing=True,
            bf16=False,
            max_steps=1,
            use_bias_correction_kl=False,
            save_strategy="no",
            temperature=1.0,
        )
        self.trainer = GRPOTrainer(
            model=load(),
            reward_funcs=lambda completions, **_: [0.0] * len(completions),
            args=settings,
            train_dataset=Dataset.from_list([{"prompt": "10 11"}] * len(batch.prompts)),
            processing_class=tokenizer(),
        )
        self.trainer.current_gradient_accumulation_steps = 1
        self.model: Any = self.trainer.model
        self.model.train()
        self.model.gradient_checkpointing_enable({"use_reentrant": False})
        arrays = {
            "prompt_ids": batch.each.astype(np.int64),
            "prompt_mask": np.ones(batch.each.shape, np.int64),
            "completion_ids": batch.answers.astype(np.int64),
            "completion_mask": np.ones(batch.answers.shape, np.int64),
            "advantages": batch.advantage.reshape(-1),
            "ref_per_token_logps": batch.reference.reshape(batch.answers.shape),
        }
        self.inputs = {name: torch.from_numpy(x).to(DEVICE) for name, x in arrays.items()}
        self.inputs["num_items_in_batch"] = self.inputs["completion_mask"].sum()

    def loss(self) -> Any:
        """The mean over sequences of their means."""
        return self.trainer.compute_loss(self.model, dict(self.inputs))


def tokenizer() -> Any:
    """A tokenizer whose words are numbers; the folder has none, and the trainer asks for one."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": shapes.PAD, "<eos>": shapes.EOS, "<bos>": shapes.BOS}
    words |= {str(i): i for i in range(3, SHAPE.vocab_size)}
    made = Tokenizer(models.WordLevel(words, unk_token="<bos>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>"
    )


def update(way: str, stage: str, batch: str) -> Answer:
    """One more update of the same weights."""
    key = stage, batch
    if key not in UPDATES:
        made = {"sft": SFT, "grpo": GRPO}[stage](shapes.read_batch(batch))
        weights = made.model.parameters()
        UPDATES[key] = made, torch.optim.AdamW(weights, lr=1e-6, weight_decay=0.0)
    made, optimizer = UPDATES[key]
    start = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    loss = made.loss()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(made.model.parameters(), 1e9)
    optimizer.step()
    answer = {"loss": float(loss), "norm": float(norm)}
    return {"seconds": time.perf_counter() - start, **answer}


if __name__ == "__main__":
    serve({"logits": logits, "sample": sample, "update": update})
