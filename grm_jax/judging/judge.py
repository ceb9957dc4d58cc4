"""`Judge`: a model that judges by writing, from Examples to Verdicts.

Pointwise (the generative reward model), or LLM-as-a-Judge: a vote for one of the responses.

Each of k samples sees the responses in an order of its own; samples that drew the same order
share one prefilled prompt. Orders and tokens depend on (seed, what the Example shows, sample
number) alone: neither its id nor its place in a file changes them.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from grm_jax.judging.folder import ModelFolder, Writes, load_model_folder
from grm_jax.judging.judgment import Judgment, Refusal, Sampled, Verdict, restore
from grm_jax.judging.meta import MetaRM
from grm_jax.judging.token_prob import IndexReader, check_count, softmax, weighed
from grm_jax.judging.voting import guide, vote
from grm_jax.sampling.sampler import Completion, Request, Sampler
from grm_jax.sampling.strategy import Strategy
from grm_jax.sharding import MeshConfig
from grm_jax.text.degenerate import degenerate
from grm_jax.text.messages import Example
from grm_jax.text.parse import parse_choice, parse_judgment
from grm_jax.text.prompts import Template, render

# Two uses of randomness beside the sampler's, kept apart by a last word that is never zero
# (numpy's seeds do not distinguish trailing zeros).
_ORDERS, _TIES = 1, 2
NOT_FINITE = (
    "the logits of {} are not finite (NaN or inf) for this row, so that what it wrote means "
    "nothing: try --dtype float32, or another checkpoint."
)


@dataclass
class _Pending:
    """An Example whose samples are being drawn."""

    example: Example
    k: int
    judgments: list[Judgment] = field(default_factory=list)


class Judge:
    """A loaded model that judges by writing.

    Args:
        folder: model, weights, tokenizer and templates, see `load_model_folder`.
        strategy: temperature 0.5 by default, the paper's for every result with k > 1.
        max_new_tokens: room for principles, critique and scores; None: what the folder says.
        rows: samples decoded at once: the speed and memory knob.
        meta_rm: a model that rates judgments; only the k_meta best of each verdict then count.
        k_meta: how many those are; by default half of k.
        training: ask for 0 or 1 where there is a single response (the template `single`), as in
            RFT and RL; otherwise a single response is scored on the ordinary scale.
        hinted: name the best response in the prompt, as in hinted sampling.
        reference: show the reference answer of an Example that has one.
        kind: "grm", scores for all responses; "judge", one vote for the best, so that the sum over
            k samples is the majority; "token-prob", the probabilities of such a vote, see
            `token_prob`; by default what the folder was made for.

    Raises:
        ValueError: a setting out of its range, or the folder holds no model that writes.
    """

    on_devices = True

    def __init__(
        self,
        folder: ModelFolder,
        *,
        strategy: Strategy | None = None,
        seed: int = 0,
        max_new_tokens: int | None = None,
        rows: int = 64,
        meta_rm: MetaRM | None = None,
        k_meta: int | None = None,
        training: bool = False,
        hinted: bool = False,
        reference: bool = False,
        kind: Writes | None = None,
    ):
        self.kind = kind or folder.kind
        if self.kind not in get_args(Writes) or folder.model.head != "lm":
            raise ValueError(
                f"{folder.path} holds a model of the kind {folder.kind!r} with the head "
                f"{folder.model.head!r}; to judge by writing takes a language model and one of "
                f"the kinds {', '.join(get_args(Writes))}."
            )
        if k_meta is not None and (meta_rm is None or k_meta < 1):
            raise ValueError(
                f"k_meta is {k_meta}, and the meta RM is {meta_rm}: it needs a meta RM whose "
                "scores decide which judgments count, and must be 1 or more."
            )
        self.folder = folder
        self.meta_rm, self.k_meta = meta_rm, k_meta
        self.training, self.hinted, self.reference = training, hinted, reference
        self._indexes = IndexReader(folder, rows) if self.kind == "token-prob" else None
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
        meta_rm: str | Path | MetaRM | None = None,
        **settings: Any,
    ) -> Judge:
        """Loads "tiny" (bundled), a model folder, or a hub id; `settings` as for `Judge`.

        meta_rm: the meta RM, or where it is: "tiny-meta" (bundled), a folder, or a hub id.

        Raises:
            ValueError, FileNotFoundError: what is missing or does not fit, and what to do.
        """
        folder = load_model_folder(
            name, tokenizer=tokenizer, templates=templates, dtype=dtype, mesh=mesh
        )
        if meta_rm is not None and not isinstance(meta_rm, MetaRM):
            rows = settings.get("rows", 64)
            meta_rm = MetaRM.load(meta_rm, dtype=dtype, mesh=mesh, rows=rows)
        return cls(folder, meta_rm=meta_rm, **settings)

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
        for result in self.rated_all(examples, k, strategy):
            yield result if isinstance(result, Refusal) else self._conclude(result)

    def rated_all(
        self, examples: Iterable[Example], k: int = 8, strategy: Strategy | None = None
    ) -> Iterator[Sampled | Refusal]:
        """As `judge_all`, but without a vote: every judgment, with its meta score if there is a
        meta RM."""
        sampled = self.sample_all(examples, k, strategy)
        return self.meta_rm.rate_all(sampled) if self.meta_rm else sampled

    def sample_all(
        self, examples: Iterable[Example], k: int = 8, strategy: Strategy | None = None
    ) -> Iterator[Sampled | Refusal]:
        """As `judge_all`, but without a vote or a meta RM: every judgment, readable or not."""
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

        for pending, judgment in self._read(sampler(requests())):
            while refused:
                yield refused.popleft()
            pending.judgments.append(judgment)
            if len(pending.judgments) == pending.k:
                judgments = sorted(pending.judgments, key=lambda j: j.sample)
                if all(math.isfinite(judgment.logprob) for judgment in judgments):
                    yield Sampled(pending.example, tuple(judgments))
                else:
                    yield Refusal(pending.example.id, NOT_FINITE.format(self.folder.path))
        yield from refused

    def _requests(self, pending: _Pending) -> list[Request]:
        """One request per distinct order of the responses, all or none.

        Raises:
            ValueError: a prompt that does not fit.
        """
        example, item = pending.example, item_key(pending.example.digest)
        if self._indexes:
            check_count(example.n)
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

    def template(self, example: Example) -> Template:
        """The template that the model is asked with."""
        return self.folder.templates.asking(self.kind, example.n, training=self.training)

    def prompt_tokens(self, example: Example) -> list[int]:
        """The token ids that the model is shown for an Example as it stands."""
        template = self.template(example)
        turns = render(example, template, hint=self.hinted, reference=self.reference)
        return self.folder.tokenizer.encode_chat(turns)

    def _read(self, completions: Iterator[Completion]) -> Iterator[tuple[_Pending, Judgment]]:
        """Each completion's judgment, and the Example that it is one of."""
        parsed = ((completion, self._parse(completion)) for completion in completions)
        reader = self._indexes
        if reader is None:
            yield from ((completion.request.tag[0], judgment) for completion, judgment in parsed)
            return
        requests = (
            ((completion.request.tag[0], judgment), reader.before(completion, judgment))
            for completion, judgment in parsed
        )
        for (pending, judgment), found in reader(requests):
            logits = found[0][: pending.example.n] if found and found[0] else None
            if logits and not all(map(math.isfinite, logits)):
                judgment = replace(judgment, logprob=math.nan)
            yield pending, weighed(judgment, logits and softmax(logits))

    def _parse(self, completion: Completion) -> Judgment:
        pending, order = completion.request.tag
        stops = set(self.folder.tokenizer.stop_ids)
        text = self.folder.tokenizer.decode([int(t) for t in completion.tokens if t not in stops])
        return read_judgment(
            text,
            self.template(pending.example),
            sample=completion.sample,
            order=order,
            tokens=len(completion.tokens),
            logprob=float(completion.logprobs.sum()),
            cut_off=not completion.finished,
        )

    def _conclude(self, sampled: Sampled) -> Verdict | Refusal:
        example, judgments = sampled.example, sampled.judgments
        if self.meta_rm is not None:
            judgments = guide(judgments, self.k_meta)
        rng = np.random.default_rng([self.sampler.seed, item_key(example.digest), 0, _TIES])
        verdict = vote(example.id, judgments, example.n, rng)
        if verdict is None:
            counts: dict[str, int] = {}
            for judgment in judgments:
                counts[str(judgment.reason)] = counts.get(str(judgment.reason), 0) + 1
            told = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
            return Refusal(
                example.id,
                f"none of {len(judgments)} samples had readable scores ({told}); the model does "
                "not follow the template, or max_new_tokens is too small.",
            )
        return replace(verdict, degenerate=degenerate(example.responses))


def read_judgment(
    text: str,
    template: Template,
    *,
    sample: int,
    order: tuple[int, ...],
    tokens: int,
    logprob: float = math.nan,
    cut_off: bool = False,
) -> Judgment:
    """A written judgment, parsed: its scores go back to the order of the Example.

    Where the template asks for a choice, the chosen response scores 1 and all others 0.
    order: order[i] is the index of the response that stood at place i. cut_off: the length limit
    ended it, which is then the reason why it has no scores.
    """
    if template.chooses:
        parsed = parse_choice(text, len(order), label=template.label, cut_off=cut_off)
        chosen = parsed.index
        shown = None if chosen is None else [int(i == chosen) for i in range(len(order))]
    else:
        parsed = parse_judgment(
            text,
            len(order),
            template.low,
            template.high,
            label=template.label,
            cut_off=cut_off,
        )
        shown = parsed.scores
    scores = None if shown is None else restore(shown, order)
    return Judgment(
        sample=sample,
        order=order,
        principles=parsed.principles,
        critique=parsed.critique,
        scores=scores,
        reason="truncated" if parsed.reason is not None and cut_off else parsed.reason,
        text=text,
        tokens=tokens,
        logprob=logprob,
        counted=scores is not None,
    )


def item_key(name: str) -> int:
    """The uint32 of a random stream by its name: an Example's is its digest."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def response_order(seed: int, item: int, sample: int, n: int) -> tuple[int, ...]:
    """The order in which sample number `sample` sees n responses (uniform over permutations)."""
    rng = np.random.default_rng([seed, item, sample, _ORDERS])
    return tuple(rng.permutation(n).tolist())
