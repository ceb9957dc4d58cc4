"""`Judge`: a model that judges by writing, from Examples to Verdicts.

Pointwise (the generative reward model), or LLM-as-a-Judge: a vote for one of the responses.

Each of k samples sees the responses in an order of its own; samples that drew the same order
share one prefilled prompt. Orders and tokens depend on (seed, what the Example shows, sample
number) alone: neither its id nor its position in a file changes them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from grm_jax.fingerprint import fingerprint
from grm_jax.judging.asking import Asking, read_completion
from grm_jax.judging.config import Weights
from grm_jax.judging.folder import ModelFolder, load_model_folder
from grm_jax.judging.judgment import (
    Judgment,
    Refusal,
    Sampled,
    Verdict,
    check_adaptive,
    check_samples,
)
from grm_jax.judging.kinds import KINDS, Writes
from grm_jax.judging.meta import MetaRM
from grm_jax.judging.pending import Pending, gather
from grm_jax.judging.principles import (
    Written,
    opening_tokens,
    principles_from,
    principles_in,
    query_messages,
    query_stream,
    takes_opening,
)
from grm_jax.judging.token_prob import IndexReader, check_count, has_odds, weighed
from grm_jax.judging.voting import conclude, still_needed
from grm_jax.mesh import MeshConfig
from grm_jax.randomness import item_key, response_order
from grm_jax.sampling.request import Completion, Request
from grm_jax.sampling.sampler import Sampler
from grm_jax.sampling.strategy import Strategy
from grm_jax.text.messages import Example

NOT_FINITE = (
    "the logits of {} are not finite (NaN or inf) for this row, so that what it wrote means "
    "nothing: try --dtype float32, or another checkpoint."
)


_Open = Pending[Example, int, Judgment]


class _Asked(NamedTuple):
    """What the sampler knows a prompt by: its Example, and the order in which it shows it."""

    pending: _Open
    order: tuple[int, ...]


class Judge:
    """A loaded model that judges by writing.

    Args:
        folder: model, weights, tokenizer and templates, see `load_model_folder`.
        strategy: temperature 0.5 by default, the paper's for every result with k > 1.
        max_new_tokens: room for principles, critique and scores; None: what the folder says.
        slots: samples decoded at once: the speed and memory knob.
        meta_rm: a model that rates judgments; only the k_meta best of each verdict then count.
        k_meta: how many those are; by default half of k.
        training: ask for 0 or 1 where there is a single response (the template `single`), as in
            RFT and RL; otherwise a single response is scored on the ordinary scale.
        hinted: name the best response in the prompt, as in hinted sampling.
        reference: show the reference answer of an Example that has one.
        kind: "grm", scores for all responses; "judge", one vote for the best, so that the sum over
            k samples is the majority; "token-prob", the probabilities of such a vote, see
            `token_prob`; by default what the folder was made for.

    Attributes:
        odds: scores are probabilities, which take a program of their own, see `token_prob`.

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
        slots: int = 64,
        meta_rm: MetaRM | None = None,
        k_meta: int | None = None,
        training: bool = False,
        hinted: bool = False,
        reference: bool = False,
        kind: Writes | None = None,
    ):
        self.kind = kind or folder.kind
        writers = [name for name, kind in KINDS.items() if kind.head == "lm"]
        if self.kind not in writers or folder.model.head != "lm":
            raise ValueError(
                f"{folder.path} holds a model of the kind {folder.kind!r} with the head "
                f"{folder.model.head!r}; to judge by writing takes a language model and one of "
                f"the kinds {', '.join(writers)}."
            )
        if k_meta is not None and (meta_rm is None or k_meta < 1):
            raise ValueError(
                f"k_meta is {k_meta}, and the meta RM is {meta_rm}: it needs a meta RM whose "
                "scores decide which judgments count, and must be 1 or more."
            )
        self.folder = folder
        self.meta_rm, self.k_meta = meta_rm, k_meta
        row = KINDS[self.kind]
        self.asking = Asking(folder.templates, row.task, training, hinted, reference)
        self.odds = has_odds(self.asking, row.odds)
        self._indexes = IndexReader(folder, slots, asking=self.asking) if self.odds else None
        self.sampler = Sampler(
            folder.model,
            folder.params,
            stop_ids=folder.tokenizer.stop_ids,
            strategy=strategy or Strategy(temperature=0.5),
            seed=seed,
            max_new_tokens=max_new_tokens or folder.max_new_tokens,
            slots=slots,
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
        weights: Weights | None = None,
        mesh: MeshConfig | None = None,
        chat: Mapping[str, Any] | None = None,
        meta_rm: str | Path | MetaRM | None = None,
        **settings: Any,
    ) -> Judge:
        """Loads "tiny" (bundled), a folder, a GGUF file, or a hub id; `settings` as for `Judge`.

        meta_rm: the meta RM, or where it is: "tiny-meta" (bundled), a folder, or a hub id.
        tokenizer, templates, dtype, weights, mesh, chat: as for `load_model_folder`.

        Raises:
            ValueError, FileNotFoundError: what is missing or does not fit, and what to do.
        """
        folder = load_model_folder(
            name,
            tokenizer=tokenizer,
            templates=templates,
            dtype=dtype,
            weights=weights,
            mesh=mesh,
            chat=chat,
        )
        if meta_rm is not None and not isinstance(meta_rm, MetaRM):
            slots = settings.get("slots", 64)
            meta_rm = MetaRM.load(meta_rm, dtype=dtype, mesh=mesh, slots=slots)
        return cls(folder, meta_rm=meta_rm, **settings)

    def __call__(
        self, example: Example, k: int = 8, *, adaptive: bool | float = False, **settings: Any
    ) -> Verdict:
        """Judges one Example with k samples, or fewer if `adaptive` (see `sample_all`); `settings`
        (temperature, top_k, top_p) for this call. It runs a program of k slots, not of all, so that
        its log-probabilities may differ from those of `judge_all` by rounding.

        Raises:
            ValueError: the Example cannot be judged (too long, or no sample had scores).
        """
        check_samples(k)
        strategy = replace(self.sampler.strategy, **settings) if settings else None
        one = copy(self)
        one.sampler = self.sampler.sized(k)
        (result,) = one.judge_all([example], k, strategy, adaptive=adaptive)
        if isinstance(result, Refusal):
            raise ValueError(f"example {result.id}: {result.error}")
        return result

    def judge_all(
        self,
        examples: Iterable[Example],
        k: int = 8,
        strategy: Strategy | None = None,
        *,
        adaptive: bool | float = False,
    ) -> Iterator[Verdict | Refusal]:
        """Judges a stream, k samples each; yields in the order in which Examples are finished.

        A result has its Example's id. Memory does not grow with the number of Examples.
        """
        for result in self.rated_all(examples, k, strategy, adaptive=adaptive):
            yield conclude(
                result, seed=self.sampler.seed, k_meta=self.k_meta, guided=self.meta_rm is not None
            )

    def rated_all(
        self,
        examples: Iterable[Example],
        k: int = 8,
        strategy: Strategy | None = None,
        *,
        adaptive: bool | float = False,
    ) -> Iterator[Sampled | Refusal]:
        """As `judge_all`, but without a vote: every judgment, with its meta score if there is a
        meta RM."""
        if adaptive and self.meta_rm:
            raise ValueError(
                "adaptive voting and a meta RM exclude each other: which samples count is known "
                "only when all are there."
            )
        sampled = self.sample_all(examples, k, strategy, adaptive=adaptive)
        return self.meta_rm.rate_all(sampled) if self.meta_rm else sampled

    def sample_all(
        self,
        examples: Iterable[Example],
        k: int = 8,
        strategy: Strategy | None = None,
        *,
        adaptive: bool | float = False,
    ) -> Iterator[Sampled | Refusal]:
        """As `judge_all`, but without a vote or a meta RM: every judgment, readable or not.

        adaptive: draw no more samples of an Example, once none of those left of the k can change
            its winner (of one response: all k), see `still_needed`; or, of a number below 1, once
            its winner is that of all k with this probability. They come in rounds of as many as it
            takes at least, so that those that count do not depend on what else is judged.

        Raises:
            ValueError: k is not positive, or `adaptive` is no probability.
        """
        check_samples(k)
        check_adaptive(adaptive)
        sampler = replace(self.sampler, strategy=strategy) if strategy else self.sampler
        refused: deque[Refusal] = deque()
        rounds: deque[_Open] = deque()
        undecided = 0

        def requests() -> Iterator[Request[_Asked] | None]:
            nonlocal undecided
            for example in examples:
                while rounds:
                    yield from self._requests(rounds.popleft())
                first = self._still_needed(example, (), k, adaptive) if adaptive else k
                try:
                    asked = self._requests(Pending(example, tuple(range(first))))
                except ValueError as error:
                    refused.append(Refusal(example.id, str(error)))
                    continue
                undecided += bool(adaptive)
                yield from asked
            while undecided:
                yield from self._requests(rounds.popleft()) if rounds else (None,)

        read = self._read(sampler(requests()))
        parts = ((asked.pending, judgment.sample, judgment) for asked, judgment in read)
        for result in gather(parts, refused):
            if isinstance(result, Refusal):
                yield result
                continue
            if adaptive:
                if more := self._still_needed(result.owner, result.in_order(), k, adaptive):
                    keys = tuple(range(len(result.keys) + more))
                    rounds.append(Pending(result.owner, keys, result.parts))
                    continue
                undecided -= 1
            yield self.sampled(result)

    # For whoever steps an engine on its own account, such as a server.

    def asked(
        self, example: Example, k: int, adaptive: bool | float = False
    ) -> tuple[Pending[Example, int, Judgment], list[Request[Any]]]:
        """An Example whose k judgments are to come, or the first of them if `adaptive`, and the
        requests to an engine that bring them.

        Raises:
            ValueError: the Example cannot be judged, or a prompt does not fit.
        """
        check_samples(k)
        first = self._still_needed(example, (), k, adaptive) if adaptive else k
        pending = Pending[Example, int, Judgment](example, tuple(range(first)))
        return pending, self._requests(pending)

    def asked_further(
        self, pending: Pending[Example, int, Judgment], k: int, adaptive: bool | float
    ) -> tuple[Pending[Example, int, Judgment], list[Request[Any]]]:
        """The same for an Example all of whose judgments so far are there; no requests where that
        is enough."""
        judgments = pending.in_order()
        more = self._still_needed(pending.owner, judgments, k, adaptive) if adaptive else 0
        keys = tuple(range(len(judgments) + more))
        further = Pending[Example, int, Judgment](pending.owner, keys, pending.parts)
        return further, self._requests(further) if more else []

    def read(self, completion: Completion[Any]) -> Judgment:
        """The judgment that a completion of such a request is."""
        return self._opened(completion.request.tag.pending.owner, self._parse(completion))

    def sampled(self, pending: Pending[Example, int, Judgment]) -> Sampled | Refusal:
        """An Example whose judgments are all there; a Refusal where one means nothing."""
        if all(math.isfinite(judgment.logprob) for judgment in pending.parts.values()):
            return Sampled(pending.owner, pending.in_order(), engine=self._engine())
        return Refusal(pending.owner.id, NOT_FINITE.format(self.folder.path))

    def _engine(self) -> dict[str, int]:
        """The numbers that say the engine's size; 0 stands for what follows from them."""
        return {name: count for name, count in asdict(self.sampler.size).items() if count}

    def _still_needed(
        self, example: Example, judgments: Sequence[Judgment], k: int, confidence: float
    ) -> int:
        template = self.asking.template(example.n)
        spread = 1 if template.chooses else template.high - template.low
        return still_needed(judgments, k, example.n, spread, confidence)

    def _requests(self, pending: _Open) -> list[Request[_Asked]]:
        """One request per distinct order of the responses, for the samples that are not there; all
        or none.

        Raises:
            ValueError: a prompt that does not fit.
        """
        example, item = pending.owner, item_key(pending.owner.digest)
        if self._indexes:
            check_count(example.n)
        samples: dict[tuple[int, ...], list[int]] = {}
        for sample in (key for key in pending.keys if key not in pending.parts):
            order = response_order(self.sampler.seed, item, sample, example.n)
            samples.setdefault(order, []).append(sample)
        requests = []
        for order, numbers in samples.items():
            tokens = self.prompt_tokens(example, order)
            self.sampler.check_length(len(tokens))
            requests.append(Request(tokens, item, tuple(numbers), _Asked(pending, order)))
        return requests

    def prompt_tokens(self, example: Example, order: Sequence[int] | None = None) -> list[int]:
        """The token ids that the model is shown for an Example, in this order or as it stands; with
        the beginning of its answer, if that is given (`opening`)."""
        opening, asked = self.opening(example), example
        if opening:
            asked = replace(example, principles=None)
        return self.asking.ask(asked, order, self.folder.tokenizer) + opening

    # Principles that are given, see `principles`.

    @property
    def made_by(self) -> Mapping[str, Any]:
        """What decides the principles that it writes, beside the prompt."""
        return {
            "model": fingerprint(self.folder.path),
            "seed": self.sampler.seed,
            "strategy": asdict(self.sampler.strategy),
            "max_new_tokens": self.sampler.max_new_tokens,
        }

    def write_principles(self, examples: Iterable[Example]) -> Iterator[Written | Refusal]:
        """Principles for the query of each Example, in the order in which they are written; the
        responses are not read."""
        template, tokenizer = self.asking.template(2), self.folder.tokenizer
        refused: list[Refusal] = []

        def requests() -> Iterator[Request[Example]]:
            for example in examples:
                try:
                    turns = query_messages(template, example)
                    tokens = tokenizer.encode_chat(turns)
                    self.sampler.check_length(len(tokens))
                except ValueError as error:
                    refused.append(Refusal(example.id, str(error)))
                    continue
                yield Request(tokens, item_key(query_stream(turns)), (0,), example)

        for completion in self.sampler(requests()):
            text = tokenizer.decode_completion(completion.tokens)
            principles = principles_in(text, template, cut_off=not completion.finished)
            yield Written(completion.request.tag, principles, len(completion.tokens))
        yield from refused

    def opening(self, example: Example) -> list[int]:
        """The tokens of given principles with which the answer begins, where the prompt has no
        place for them; else none."""
        if example.principles is None or not takes_opening(
            example, self.asking.template(example.n)
        ):
            return []
        return opening_tokens(example.principles, self.folder.tokenizer)

    def _opened(self, example: Example, judgment: Judgment) -> Judgment:
        """A judgment with the principles that were given as the beginning of its text."""
        opening = self.opening(example)
        if not opening:
            return judgment
        begun = self.folder.tokenizer.decode(opening)
        principles = principles_from(begun, judgment.text)
        return replace(judgment, principles=principles, text=begun + judgment.text)

    def _read(self, completions: Iterator[Completion[_Asked]]) -> Iterator[tuple[_Asked, Judgment]]:
        """What was asked, and the judgment that each completion is."""
        parsed = ((completion, self._parse(completion)) for completion in completions)
        reader = self._indexes
        if reader is None:
            for completion, judgment in parsed:
                asked = completion.request.tag
                yield asked, self._opened(asked.pending.owner, judgment)
            return
        wanted = (
            ((completion.request.tag, judgment), reader.before(completion, judgment))
            for completion, judgment in parsed
        )
        for (asked, judgment), results in reader(wanted):
            logits = results[0] if results else None
            shares = reader.shares(judgment, logits) if logits else None
            if logits and not all(map(math.isfinite, logits)):
                judgment = replace(judgment, logprob=math.nan)
            yield asked, self._opened(asked.pending.owner, weighed(judgment, shares))

    def _parse(self, completion: Completion[_Asked]) -> Judgment:
        order = completion.request.tag.order
        template = self.asking.template(len(order))
        return read_completion(completion, self.folder.tokenizer, template, order)
