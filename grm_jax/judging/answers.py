"""Plain answers to questions: what is judged, before anyone judges it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field

import numpy as np

from grm_jax.judging.endpoint import EndpointConfig, EndpointJudge
from grm_jax.judging.folder import ModelFolder
from grm_jax.judging.judge import item_key
from grm_jax.judging.judgment import Refusal
from grm_jax.sampling.sampler import Request, Sampler
from grm_jax.sampling.strategy import Strategy
from grm_jax.text.messages import Message

_ANSWER = 5  # keeps its draws apart from those that judges and rollouts make of the same words


@dataclass(frozen=True)
class Question:
    """What is asked, in one user turn, and the name of its random stream."""

    id: str
    text: str


@dataclass(frozen=True)
class Answered:
    """A question and its sampled answers."""

    id: str
    texts: tuple[str, ...]


@dataclass
class _Pending:
    question: Question
    texts: dict[int, str] = field(default_factory=dict)


class ModelAnswers:
    """Answers of a language model.

    Args:
        folder: model, weights and tokenizer, see `load_model_folder`.
        strategy, seed, max_new_tokens, rows: as for `Judge`.

    Raises:
        ValueError: a setting out of its range, or the folder holds no model that writes.
    """

    def __init__(
        self,
        folder: ModelFolder,
        *,
        strategy: Strategy,
        seed: int,
        max_new_tokens: int,
        rows: int,
    ):
        if folder.model.head != "lm":
            raise ValueError(f"{folder.path} holds a scalar reward model: give one that writes.")
        self._tokenizer = folder.tokenizer
        self._sampler = Sampler(
            folder.model,
            folder.params,
            stop_ids=folder.tokenizer.stop_ids,
            strategy=strategy,
            seed=seed,
            max_new_tokens=max_new_tokens,
            rows=rows,
            mesh=folder.mesh,
        )

    def answer_all(self, questions: Iterable[Question], n: int) -> Iterator[Answered | Refusal]:
        """n answers to each question, in the order in which questions are finished."""
        refused: deque[Refusal] = deque()
        stops = set(self._tokenizer.stop_ids)
        for completion in self._sampler(self._requests(questions, n, refused)):
            while refused:
                yield refused.popleft()
            tokens = [int(token) for token in completion.tokens if token not in stops]
            pending: _Pending = completion.request.tag
            pending.texts[completion.sample] = self._tokenizer.decode(tokens)
            if len(pending.texts) == n:
                texts = tuple(pending.texts[sample] for sample in range(n))
                yield Answered(pending.question.id, texts)
        yield from refused

    def _requests(
        self, questions: Iterable[Question], n: int, refused: deque[Refusal]
    ) -> Iterator[Request]:
        for question in questions:
            tokens = self._tokenizer.encode_chat([Message("user", question.text)])
            try:
                self._sampler.check_length(len(tokens))
            except ValueError as error:
                refused.append(Refusal(question.id, str(error)))
                continue
            yield Request(tokens, item_key(question.id), tuple(range(n)), _Pending(question))


class EndpointAnswers:
    """Answers of a model behind an OpenAI-compatible server; several questions at a time.

    Raises:
        ValueError: no openai client.
    """

    def __init__(self, config: EndpointConfig, *, seed: int):
        self._server, self._most, self._seed = EndpointJudge(config), config.concurrency, seed

    def answer_all(self, questions: Iterable[Question], n: int) -> Iterator[Answered | Refusal]:
        """As `ModelAnswers`; a question is refused if one of its answers finally fails."""
        stream = iter(questions)
        flying: set[Future[Answered | Refusal]] = set()
        pool = ThreadPoolExecutor(self._most)
        try:
            while True:
                while len(flying) < self._most and (question := next(stream, None)) is not None:
                    flying.add(pool.submit(self._ask, question, n))
                if not flying:
                    return
                finished, flying = wait(flying, return_when=FIRST_COMPLETED)
                yield from [future.result() for future in finished]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, question: Question, n: int) -> Answered | Refusal:
        turns = [asdict(Message("user", question.text))]
        item = item_key(question.id)
        seeds = (np.random.default_rng([self._seed, item, i, _ANSWER]) for i in range(n))
        try:
            texts = tuple(self._server.answer(turns, int(rng.integers(2**31))) for rng in seeds)
        except (ConnectionError, ValueError) as error:
            return Refusal(question.id, str(error), passing=isinstance(error, ConnectionError))
        return Answered(question.id, texts)
