"""google-deepmind/gemma: its sampler; it has no trainer of its own."""

from __future__ import annotations

import sys
import time
from typing import Any

# It names a class that kauldron, as it resolves, does not have any more; only for checkpoints.
import kauldron.checkpoints

kauldron.checkpoints.AbstractPartialLoader = type("AbstractPartialLoader", (), {})

import jax
import jax.numpy as jnp
import numpy as np
from gemma import gm
from gemma.gm.nn import _config, _modules, _transformer

from benchmarks.peers import shape as shapes
from benchmarks.peers.protocol import Answer, serve

SHAPE, TENSORS = shapes.read_model(sys.argv[1])
LOCAL, FULL = _modules.AttentionType.LOCAL_SLIDING, _modules.AttentionType.GLOBAL
CONFIG = _config.TransformerConfig(
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
    attention_types=(LOCAL, FULL) * (SHAPE.num_hidden_layers // 2),
)
SAMPLERS: dict[tuple, Any] = {}


class Random(_transformer.Transformer):
    """Its Gemma-2 in our shape."""

    config: _config.TransformerConfig = CONFIG
    INFO = _transformer.ModelInfo()


class Special:
    """The tokens that its sampler asks for."""

    EOS, END_OF_TURN, BOS, PAD, START_OF_IMAGE = shapes.EOS, shapes.EOS, shapes.BOS, shapes.PAD, 3


class Numbers:
    """A tokenizer whose words are numbers."""

    special_tokens = Special
    FORBIDDEN_TOKENS = (shapes.EOS, shapes.PAD)
    VERSION = None

    def encode(self, text: str, add_bos: bool = False, **_: Any) -> list[int]:
        return [int(word) for word in text.split()]

    def decode(self, ids: Any, **_: Any) -> str:
        return " ".join(str(int(x)) for x in np.asarray(ids))


def layer_params(name: str) -> dict[str, Any]:
    """One layer's weights where it has them."""
    wide, size = SHAPE.hidden_size, SHAPE.head_dim

    def heads(part: str) -> np.ndarray:
        weight = TENSORS[f"{name}self_attn.{part}_proj.weight"]
        return weight.reshape(-1, size, wide).swapaxes(1, 2)

    out = TENSORS[f"{name}self_attn.o_proj.weight"].T.reshape(-1, size, wide)
    gating = [TENSORS[f"{name}mlp.{part}_proj.weight"].T for part in ("gate", "up")]
    norms = ("pre_attention_norm", "post_attention_norm", "pre_ffw_norm", "post_ffw_norm")
    return {
        "attn": {
            "q_einsum": {"w": heads("q")},
            "kv_einsum": {"w": np.stack([heads("k"), heads("v")])},
            "attn_vec_einsum": {"w": out},
        },
        "mlp": {
            "gating_einsum": np.stack(gating),
            "linear": TENSORS[f"{name}mlp.down_proj.weight"].T,
        },
        **{
            theirs: {"scale": TENSORS[f"{name}{ours}.weight"]}
            for theirs, ours in zip(norms, shapes.NORMS, strict=True)
        },
    }


MODEL = Random(dtype=jnp.dtype(SHAPE.dtype))
PARAMS = jax.tree.map(
    jnp.asarray,
    {
        "embedder": {"input_embedding": TENSORS["model.embed_tokens.weight"]},
        "final_norm": {"scale": TENSORS["model.norm.weight"]},
        **{
            f"layer_{i}": layer_params(f"model.layers.{i}.") for i in range(SHAPE.num_hidden_layers)
        },
    },
)


def logits(prompt: int) -> Answer:
    """Of the token after the prompt."""
    tokens = jnp.asarray(shapes.prompt(SHAPE, prompt))[None]

    @jax.jit
    def last(params: Any) -> Any:
        return MODEL.apply({"params": params}, tokens=tokens, return_last_only=True).logits

    return {"logits": np.asarray(last(PARAMS), np.float32).reshape(-1).tolist()}


def sample(way: str, k: int, prompt: int, new: int, seed: int) -> Answer:
    """k samples: to its sampler they are k prompts."""
    if (prompt, new) not in SAMPLERS:
        SAMPLERS[prompt, new] = gm.text.Sampler(
            model=MODEL,
            params=PARAMS,
            tokenizer=Numbers(),
            cache_length=prompt + new + 8,
            max_out_length=new,
            pad_length=prompt,
            sampling=gm.text.RandomSampling(temperature=shapes.TEMPERATURE),
        )
    text = " ".join(map(str, shapes.prompt(SHAPE, prompt, seed)))
    start = time.perf_counter()
    drawn = SAMPLERS[prompt, new].sample(
        [text] * k, max_new_tokens=new, rng=seed, return_state=True
    )
    tokens = np.asarray(drawn.state.predicted_tokens)
    seconds = time.perf_counter() - start
    assert tokens.shape == (k, new)
    assert int(drawn.state.step) == new
    return {"seconds": seconds, "different": len(np.unique(tokens, axis=0))}


if __name__ == "__main__":
    serve({"logits": logits, "sample": sample})
