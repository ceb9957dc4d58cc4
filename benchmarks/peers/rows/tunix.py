"""Tunix: its sampler, and the updates that its trainers compile."""

from __future__ import annotations

import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from tunix.generate import sampler as tunix_sampler
from tunix.models.gemma import model as gemma
from tunix.rl import algo_core
from tunix.rl import trainer as rl_trainer
from tunix.rl.grpo import grpo_learner
from tunix.sft import peft_trainer
from tunix.sft import utils as sft_utils

from benchmarks.peers import shape as shapes
from benchmarks.peers.protocol import Answer, serve

SHAPE, TENSORS = shapes.read_model(sys.argv[1])
SAMPLERS: dict[int, Any] = {}
UPDATES: dict[tuple, Any] = {}


class Numbers:
    """A tokenizer whose words are numbers."""

    def encode(self, text: str, **_: Any) -> list[int]:
        return [int(word) for word in text.split()]

    def decode(self, ids: Any, **_: Any) -> str:
        return " ".join(map(str, ids))

    def bos_id(self) -> int:
        return shapes.BOS

    def eos_id(self) -> int:
        return shapes.EOS

    def pad_id(self) -> int:
        return shapes.PAD


def build() -> Any:
    """Its Gemma-2 with our weights."""
    local, full = gemma.AttentionType.LOCAL_SLIDING, gemma.AttentionType.GLOBAL
    config = gemma.ModelConfig(
        num_layers=SHAPE.num_hidden_layers,
        num_embed=SHAPE.vocab_size,
        embed_dim=SHAPE.hidden_size,
        hidden_dim=SHAPE.intermediate_size,
        num_heads=SHAPE.num_attention_heads,
        head_dim=SHAPE.head_dim,
        num_kv_heads=SHAPE.num_key_value_heads,
        final_logit_softcap=SHAPE.final_logit_softcapping,
        attn_logits_soft_cap=SHAPE.attn_logit_softcapping,
        use_post_attn_norm=True,
        use_post_ffw_norm=True,
        sliding_window_size=SHAPE.sliding_window,
        attention_types=(local, full) * (SHAPE.num_hidden_layers // 2),
    )
    model = gemma.Gemma(config, rngs=nnx.Rngs(params=0))
    put(model.embedder.input_embedding, TENSORS["model.embed_tokens.weight"])
    put(model.final_norm.scale, TENSORS["model.norm.weight"])
    for i, layer in enumerate(model.layers):
        fill(layer, f"model.layers.{i}.")
    return model


def fill(layer: Any, name: str) -> None:
    """Puts one layer's weights where Tunix has them."""
    wide, size = SHAPE.hidden_size, SHAPE.head_dim

    def heads(part: str) -> np.ndarray:
        weight = TENSORS[f"{name}self_attn.{part}_proj.weight"]
        return weight.reshape(-1, size, wide).swapaxes(1, 2)

    put(layer.attn.q_einsum.w, heads("q"))
    put(layer.attn.kv_einsum.w, np.stack([heads("k"), heads("v")]))
    out = TENSORS[f"{name}self_attn.o_proj.weight"].T
    put(layer.attn.attn_vec_einsum.w, out.reshape(-1, size, wide))
    for part in ("gate", "up", "down"):
        weight = TENSORS[f"{name}mlp.{part}_proj.weight"].T
        put(getattr(layer.mlp, f"{part}_proj").kernel, weight)
    norms = ("pre_attention_norm", "post_attn_norm", "pre_ffw_norm", "post_ffw_norm")
    for theirs, ours in zip(norms, shapes.NORMS, strict=True):
        put(getattr(layer, theirs).scale, TENSORS[f"{name}{ours}.weight"])


def put(variable: Any, value: np.ndarray) -> None:
    """Replaces a weight by one of the same shape."""
    assert variable.value.shape == value.shape, (variable.value.shape, value.shape)
    variable.value = jnp.asarray(value)


MODEL = build()


def logits(prompt: int) -> Answer:
    """Of the token after the prompt."""
    tokens = jnp.asarray(shapes.prompt(SHAPE, prompt))[None]
    sees = jnp.tril(jnp.ones((1, prompt, prompt), bool))
    run = nnx.jit(lambda model, *arguments: model(*arguments)[0][0, -1])
    last = run(MODEL, tokens, jnp.arange(prompt)[None], None, sees)
    return {"logits": np.asarray(last, np.float32).tolist()}


def sample(way: str, k: int, prompt: int, new: int, seed: int) -> Answer:
    """k samples: to its sampler they are k prompts."""
    size = (1 << (prompt - 1).bit_length()) + new  # it pads prompts to a power of two
    if size not in SAMPLERS:
        cache = tunix_sampler.CacheConfig(
            size, SHAPE.num_hidden_layers, SHAPE.num_key_value_heads, SHAPE.head_dim
        )
        SAMPLERS[size] = tunix_sampler.Sampler(MODEL, Numbers(), cache)
    # It puts BOS in front; with one token more than a power of two it would pad to twice as many.
    text = " ".join(map(str, shapes.prompt(SHAPE, prompt, seed)[1:]))
    start = time.perf_counter()
    drawn = SAMPLERS[size](
        [text] * k,
        max_generation_steps=new,
        max_prompt_length=prompt,
        temperature=shapes.TEMPERATURE,
        top_p=1.0,
        seed=seed,
        forbidden_tokens=(shapes.EOS, shapes.PAD),
    )
    seconds = time.perf_counter() - start
    assert [len(tokens) for tokens in drawn.tokens] == [new] * k
    return {"seconds": seconds, "different": len(set(drawn.text))}


def make_trainer(stage: str) -> Any:
    """Its trainer for a stage, with layers recomputed in the backward pass."""
    model = build()
    for layer in model.layers:
        layer.config.remat_config = layer.attn.remat_config = gemma.RematConfig.DECODER
    optimizer = optax.adamw(1e-6, b1=0.9, b2=0.999, weight_decay=0.0)
    training = peft_trainer.TrainingConfig(eval_every_n_steps=10**6, max_steps=10**6)
    if stage == "sft":

        def inputs(x: Any) -> dict[str, Any]:
            mask = x.input_tokens != shapes.PAD
            return {
                "input_tokens": x.input_tokens,
                "input_mask": x.input_mask,
                "positions": sft_utils.build_positions_from_mask(mask),
                "attention_mask": sft_utils.make_causal_attn_mask(mask),
            }

        trainer = peft_trainer.PeftTrainer(model, optimizer, training)
        return trainer.with_gen_model_input_fn(inputs)
    config = grpo_learner.GRPOConfig(
        num_generations=4, num_iterations=1, beta=0.04, epsilon=0.2, kl_loss_mode="low_var_kl"
    )
    config.temperature = 1.0

    def loss(model: Any, train_example: Any, algo_config: Any) -> Any:
        return algo_core.grpo_loss_fn(
            model, train_example, algo_config=config, pad_id=shapes.PAD, eos_id=shapes.EOS
        )

    trainer = rl_trainer.Trainer(
        model, optimizer, training, custom_checkpoint_metadata_fn=lambda: {}
    )
    trainer.with_loss_fn(loss, has_aux=True)
    trainer.with_gen_model_input_fn(lambda x: {"train_example": x, "algo_config": config})
    return trainer


def example(stage: str, batch: shapes.Batch) -> Any:
    """The batch as its trainer reads it."""
    if stage == "sft":
        rows = jnp.asarray(batch.rows)
        return peft_trainer.TrainingInput(input_tokens=rows, input_mask=jnp.ones(rows.shape, bool))
    each, answers = jnp.asarray(batch.each), jnp.asarray(batch.answers)
    return grpo_learner.TrainExample(
        prompt_ids=each,
        prompt_mask=jnp.ones(each.shape, bool),
        completion_ids=answers,
        completion_mask=jnp.ones(answers.shape, jnp.float32),
        advantages=jnp.asarray(batch.advantage.reshape(-1)),
        ref_per_token_logps=jnp.asarray(batch.reference.reshape(answers.shape)),
        old_per_token_logps=None,
    )


def update(way: str, stage: str, batch: str) -> Answer:
    """One more update of the same weights."""
    key = stage, batch
    if key not in UPDATES:
        trainer = make_trainer(stage)
        step = trainer.jit_train_and_eval_step()[0]
        UPDATES[key] = trainer, step, example(stage, shapes.read_batch(batch))
    trainer, step, inputs = UPDATES[key]
    start = time.perf_counter()
    done = step(inputs)
    answer = {"loss": float(done[0]), "norm": float(done[2])}
    jax.block_until_ready(nnx.state(trainer.model))
    return {"seconds": time.perf_counter() - start, **answer}


if __name__ == "__main__":
    serve({"logits": logits, "sample": sample, "update": update})
