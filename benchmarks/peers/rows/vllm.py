"""vLLM, where a GPU is: k samples of one prompt, of which it keeps the prompt's blocks once."""

from __future__ import annotations

import sys
import time

from vllm import LLM, SamplingParams

from benchmarks.peers import shape as shapes
from benchmarks.peers.protocol import Answer, serve

FOLDER = sys.argv[1]
SHAPE, _ = shapes.read_model(FOLDER)
# Its memory is taken at the start; others are on the same card.
MODEL = LLM(
    FOLDER, skip_tokenizer_init=True, gpu_memory_utilization=0.4, max_logprobs=SHAPE.vocab_size
)


def logits(prompt: int) -> Answer:
    """Log-probabilities of the token after the prompt: logits up to a constant."""
    tokens = {"prompt_token_ids": shapes.prompt(SHAPE, prompt).tolist()}
    settings = SamplingParams(max_tokens=1, logprobs=SHAPE.vocab_size, detokenize=False)
    (scores,) = MODEL.generate([tokens], settings)[0].outputs[0].logprobs
    return {"logits": [scores[token].logprob for token in range(SHAPE.vocab_size)]}


def sample(way: str, k: int, prompt: int, new: int, seed: int) -> Answer:
    """k samples of the prompt."""
    tokens = {"prompt_token_ids": shapes.prompt(SHAPE, prompt, seed).tolist()}
    settings = SamplingParams(
        n=k,
        temperature=shapes.TEMPERATURE,
        max_tokens=new,
        min_tokens=new,
        ignore_eos=True,
        seed=seed,
        detokenize=False,
    )
    MODEL.reset_prefix_cache()  # or only the first call would forward the prompt
    start = time.perf_counter()
    (drawn,) = MODEL.generate([tokens], settings, use_tqdm=False)
    seconds = time.perf_counter() - start
    assert [len(output.token_ids) for output in drawn.outputs] == [new] * k
    return {"seconds": seconds, "different": len({tuple(o.token_ids) for o in drawn.outputs})}


if __name__ == "__main__":
    serve({"logits": logits, "sample": sample})
