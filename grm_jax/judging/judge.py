"""`Judge`: the pointwise generative reward model, from Examples to Verdicts.

Each of k samples sees the responses in an order of its own; samples that drew the same order
share one prefilled prompt. Orders and tokens depend on (seed, Example id, sample number) alone.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from grm_jax.judging.folder import ModelFolder, load_model_folder
from grm_jax.judging.judgment import Judgment, Refusal, Verdict
from grm_jax.judging.voting import vote
from grm_jax.sampling.sampler import Completion, Request, Sampler
from grm_jax.sampling.strategy import Strategy
from grm_jax.sharding import MeshConfig
from grm_jax.text.messages import Example
from grm_jax.text.parse import parse_judgment
from grm_jax.text.prompts import render

# Two uses of randomness beside the sampler's, kept apart by a last word that is never zero
# (numpy's seeds do not distinguish trailing zeros).
_ORDERS, _TIES = 1, 2


@dataclass
class _Pending:
    """An Example whose samples are being drawn."""

    example: Example
    k: int
    judgments: list[Judgment] = field(default_factory=list)


class Judge:
    """A loaded generative reward model.

    Args:
        folder: model, weights, tokenizer and templates, see `load_model_folder`.
        strategy: temperature 0.5 by default, the paper's for every result with k > 1.
        max_new_tokens: room for principles, critique and scores; None: what the folder says.
        rows: samples decoded at once: the speed and memory knob.
    """

    def __init__(
        self,
        folder: ModelFolder,
        *,
        strategy: Strategy | None = None,
        seed: int = 0,
        max_new_tokens: int | None = None,
        rows: int = 64,
    ):
        self.folder = folder
        self.template = folder.templates.grm
        self.sampler = Sampler(
            folder.model,
            folder.params,
            stop_ids=folder.tokenizer.stop_ids,
            strategy=strategy or Strategy(temperature=0.5),
            seed=seed,
            max_new_tokens=max_new_tokens or folder.max_new_tokens,
            rows=rows,
            mesh=folder.mesh,
        )

    @classmethod
    def load(
        cls,
        name: str | Path = "tiny",
        *,
        tokenizer: str | None = None,
        templates: str | None = None,
        dtype: str | None = None,
        mesh: MeshConfig | None = None,
        **settings: Any,
    ) -> Judge:
        """Loads "tiny" (bundled), a model folder, or a hub id; `settings` as for `Judge`.

        Raises:
            ValueError, FileNotFoundError: what is missing or does not fit, and what to do.
        """
        folder = load_model_folder(
            name, tokenizer=tokenizer, templates=templates, dtype=dtype, mesh=mesh
        )
        return cls(folder, **settings)

    def __call__(self, example: Example, k: int = 8, **settings: Any) -> Verdict:
        """Judges one Example with k samples; `settings` (temperature, top_k, top_p) for this call.

        Raises:
            ValueError: the Example cannot be judged (too long, or no sample had scores).
        """
        strategy = replace(self.sampler.strategy, **settings) if settings else None
        (result,) = self.judge_all([example], k, strategy)
        if isinstance(result, Refusal):
            raise ValueError(f"example {result.id}: {result.error}")
        return result

    def judge_all(
        self, examples: Iterable[Example], k: int = 8, strategy: Strategy | None = None
    ) -> Iterator[Verdict | Refusal]:
        """Judges a stream, k samples each; yields in the order in which Examples are finished.

        Ids must differ: an Example's randomness and its result are found by its id.
        Memory does not grow with the number of Examples.
        """
        if k < 1:
            raise ValueError(f"k is {k}; a verdict needs at least one sample.")
        sampler = replace(self.sampler, strategy=strategy) if strategy else self.sampler
        refused: deque[Refusal] = deque()

        def requests() -> Iterator[Request]:
            for example in examples:
                try:
                    yield from self._requests(_Pending(example, k))
                except ValueError as error:
                    refused.append(Refusal(example.id, str(error)))

        for completion in sampler(requests()):
            while refused:
                yield refused.popleft()
            pending, order = completion.request.tag
            pending.judgments.append(self._parse(completion, pending.example, order))
            if len(pending.judgments) == pending.k:
                yield self._conclude(pending)
        yield from refused

    def _requests(self, pending: _Pending) -> list[Request]:
        """One request per distinct order of the responses, all or none.

        Raises:
            ValueError: a prompt that does not fit.
        """
        example, item = pending.example, item_key(pending.example.id)
        samples: dict[tuple[int, ...], list[int]] = {}
        for sample in range(pending.k):
            order = response_order(self.sampler.seed, item, sample, len(example.responses))
            samples.setdefault(order, []).append(sample)
        requests = []
        for order, numbers in samples.items():
            tokens = self.prompt_tokens(example.permuted(order))
            self.sampler.check_length(len(tokens))
            requests.append(Request(tokens, item, tuple(numbers), (pending, order)))
        return requests

    def prompt_tokens(self, example: Example) -> list[int]:
        """The token ids that the model is shown for an Example as it stands."""
        return self.folder.tokenizer.encode_chat(render(example, self.template))

    def _parse(self, completion: Completion, example: Example, order: tuple[int, ...]) -> Judgment:
        stops = set(self.folder.tokenizer.stop_ids)
        text = self.folder.tokenizer.decode([int(t) for t in completion.tokens if t not in stops])
        parsed = parse_judgment(text, len(order), self.template.low, self.template.high)
        scores = None
        if parsed.scores is not None:
            restored = [0] * len(order)
            for place, index in enumerate(order):
                restored[index] = parsed.scores[place]
            scores = tuple(restored)
        cut_off = parsed.reason is not None and not completion.finished
        return Judgment(
            sample=completion.sample,
            order=order,
            principles=parsed.principles,
            critique=parsed.critique,
            scores=scores,
            reason="truncated" if cut_off else parsed.reason,
            text=text,
            tokens=len(completion.tokens),
            logprob=float(completion.logprobs.sum()),
        )

    def _conclude(self, pending: _Pending) -> Verdict | Refusal:
        example = pending.example
        judgments = sorted(pending.judgments, key=lambda j: j.sample)
        rng = np.random.default_rng([self.sampler.seed, item_key(example.id), 0, _TIES])
        verdict = vote(example.id, judgments, len(example.responses), rng)
        if verdict is None:
            counts: dict[str, int] = {}
            for judgment in judgments:
                counts[str(judgment.reason)] = counts.get(str(judgment.reason), 0) + 1
            told = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
            return Refusal(
                example.id,
                f"none of {pending.k} samples had readable scores ({told}); the model does not "
                "follow the template, or max_new_tokens is too small.",
            )
        return verdict


def item_key(example_id: str) -> int:
    """The uint32 that names an Example's random stream."""
    return int.from_bytes(hashlib.sha256(example_id.encode()).digest()[:4], "big")


def response_order(seed: int, item: int, sample: int, n: int) -> tuple[int, ...]:
    """The order in which sample number `sample` sees n responses (uniform over permutations)."""
    rng = np.random.default_rng([seed, item, sample, _ORDERS])
    return tuple(rng.permutation(n).tolist())
