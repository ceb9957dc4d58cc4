"""`python -m benchmarks.int8 --model FILE.gguf --rows ROWS.jsonl`: a model's weights in int8 beside
the file's own.

Their bytes, tokens per second of k samples of one prompt (in turn, so that the load of the machine
meets both), and how the log-probabilities of the next token differ on the responses of real rows.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers

from grm_jax.data.sources import BadRow, load_examples
from grm_jax.models.hf import load_folder
from grm_jax.models.model import Model
from grm_jax.models.quantized import quantized
from grm_jax.sampling.request import Request
from grm_jax.sampling.sampler import Sampler
from grm_jax.text.gguf_file import find_gguf
from grm_jax.text.gguf_tokenizer import read_gguf_tokenizer


@dataclass(frozen=True)
class Work:
    """How much is measured: `texts` of up to `length` tokens; `k` samples of `prompt` and `new`
    tokens, `rounds` times with each of the two."""

    texts: int = 100
    length: int = 512
    k: int = 8
    prompt: int = 256
    new: int = 64
    rounds: int = 5


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--model", type=Path, required=True, help="a GGUF file or a model folder")
    parser.add_argument("--rows", required=True, help="rows whose responses are the real text")
    for name, number in vars(Work()).items():
        parser.add_argument(f"--{name}", type=int, default=number)
    asked = vars(parser.parse_args())
    path, rows = asked.pop("model"), asked.pop("rows")
    work = Work(**asked)
    model, full = load_folder(path)
    small = quantized(load_folder(path)[1])
    texts = encoded(tokenizer_of(path), rows, work)
    print(f"load before: {os.getloadavg()[0]:.2f}; {jax.devices()[0].device_kind}")
    for name, params in (("the file's", full), ("int8", small)):
        print(f"{name}: {nbytes(params) / 2**20:.0f} MiB of weights")
    show_speed(model, {"the file's": full, "int8": small}, texts[0], work)
    show_difference(model, full, small, texts)
    print(f"load after: {os.getloadavg()[0]:.2f}")


def tokenizer_of(path: Path) -> tokenizers.Tokenizer:
    """The tokenizer of a GGUF file or a folder."""
    file = find_gguf(path)
    if file is None:
        return tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
    return tokenizers.Tokenizer.from_buffer(read_gguf_tokenizer(file).json)


def encoded(words: tokenizers.Tokenizer, rows: str, work: Work) -> list[list[int]]:
    """The first response of each row that is long enough, longest first."""
    found = []
    for row in load_examples(rows):
        if not isinstance(row, BadRow):
            ids = words.encode(row.responses[0], add_special_tokens=False).ids[: work.length]
            found += [ids] if len(ids) > 32 else []
        if len(found) == work.texts:
            break
    return sorted(found, key=len, reverse=True)


def nbytes(params: Any) -> int:
    """What weights take in memory."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(params))


def show_speed(model: Model, weights: dict[str, Any], ids: list[int], work: Work) -> None:
    """Tokens drawn per second, prefill included; the median, the lowest and the highest."""
    prompt = (ids * work.prompt)[: work.prompt]
    request = Request(prompt, 0, tuple(range(work.k)))
    samplers = {
        name: Sampler(model, params, [], max_new_tokens=work.new, slots=work.k)
        for name, params in weights.items()
    }
    speeds: dict[str, list[float]] = {name: [] for name in samplers}
    for turn in range(work.rounds + 1):
        for name, sampler in samplers.items():
            start = time.perf_counter()
            drawn = sum(len(done.tokens) for done in sampler([request]))
            if turn:  # the first compiles
                speeds[name].append(drawn / (time.perf_counter() - start))
    for name, found in speeds.items():
        print(
            f"{name}: {median(found):.1f} tokens/s [{min(found):.1f}, {max(found):.1f}] over "
            f"{len(found)} rounds in turn, k = {work.k}, {work.prompt} + {work.new} tokens"
        )
    first, second = speeds.values()
    ratios = [b / a for a, b in zip(first, second, strict=True)]
    print(f"int8 / the file's: {median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]")


def show_difference(model: Model, full: Any, small: Any, texts: list[list[int]]) -> None:
    """How far the distributions of the next token are apart."""

    @jax.jit
    def compared(full: Any, small: Any, tokens: jax.Array, real: jax.Array) -> dict[str, jax.Array]:
        positions = jnp.where(real, jnp.arange(tokens.shape[1]), -1)

        def of(params: Any) -> jax.Array:
            hidden = model.hidden(params, tokens, positions)[:, :-1]
            return jax.nn.log_softmax(model.logits(params, hidden).astype(jnp.float32))

        a, b = of(full), of(small)
        given = tokens[:, 1:, None]
        ours, theirs = (jnp.take_along_axis(x, given, -1)[..., 0] for x in (a, b))
        return {
            "full": ours,
            "small": theirs,
            "kl": (jnp.exp(a) * (a - b)).sum(-1),
            "top": a.argmax(-1) == b.argmax(-1),
        }

    found: dict[str, list[np.ndarray]] = {}
    width = len(texts[0])
    for ids in texts:
        tokens = np.zeros((1, width), np.int32)
        tokens[0, : len(ids)] = ids
        made = compared(full, small, tokens, np.arange(width)[None] < len(ids))
        for name, values in made.items():
            found.setdefault(name, []).append(np.asarray(values)[0, : len(ids) - 1])
    each = {name: np.concatenate(values).astype(np.float64) for name, values in found.items()}
    change = each["small"] - each["full"]
    by_text = [float((b - a).mean()) for a, b in zip(found["full"], found["small"], strict=True)]
    error = np.std(by_text, ddof=1) / len(by_text) ** 0.5
    print(
        f"{len(change)} next tokens of {len(texts)} texts: mean log-probability "
        f"{each['full'].mean():.4f} as in the file, {each['small'].mean():.4f} in int8; a text's "
        f"mean changes by {np.mean(by_text):+.4f} ± {error:.4f}; mean |change| of a token "
        f"{np.abs(change).mean():.4f}, 99th percentile {np.quantile(np.abs(change), 0.99):.3f}; "
        f"KL {each['kl'].mean():.5f} nats; the likeliest token is the same in "
        f"{100 * each['top'].mean():.2f} %"
    )


if __name__ == "__main__":
    main()
