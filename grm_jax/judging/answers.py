"""Plain answers to questions: what is judged, before anyone judges it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from grm_jax.judging.endpoint import concurrently
from grm_jax.judging.folder import ModelFolder
from grm_jax.judging.judgment import Refusal
from grm_jax.judging.pending import Pending, gather
from grm_jax.judging.server import EndpointConfig, Server
from grm_jax.randomness import answer_seed, item_key
from grm_jax.sampling.request import Completion, Request
from grm_jax.sampling.sampler import Sampler
from grm_jax.sampling.strategy import Strategy
from grm_jax.text.messages import Message


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


class ModelAnswers:
    """Answers of a language model.

    Args:
        folder: model, weights and tokenizer, see `load_model_folder`.
        strategy, seed, max_new_tokens, slots: as for `Judge`.

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
        slots: int,
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
            slots=slots,
            mesh=folder.mesh,
        )

    def answer_all(self, questions: Iterable[Question], n: int) -> Iterator[Answered | Refusal]:
        """n answers to each question, in the order in which questions are finished."""
        refused: deque[Refusal] = deque()
        completions = self._sampler(self._requests(questions, n, refused))
        parts = ((c.request.tag, c.sample, self._text(c)) for c in completions)
        for result in gather(parts, refused):
            if isinstance(result, Refusal):
                yield result
            else:
                yield Answered(result.owner.id, result.in_order())

    def _requests(
        self, questions: Iterable[Question], n: int, refused: deque[Refusal]
    ) -> Iterator[Request[Pending[Question, int, str]]]:
        samples = tuple(range(n))
        for question in questions:
            tokens = self._tokenizer.encode_chat([Message("user", question.text)])
            try:
                self._sampler.check_length(len(tokens))
            except ValueError as error:
                refused.append(Refusal(question.id, str(error)))
                continue
            yield Request(tokens, item_key(question.id), samples, Pending(question, samples))

    def _text(self, completion: Completion[Any]) -> str:
        return self._tokenizer.decode_completion(completion.tokens)


class EndpointAnswers:
    """Answers of a model behind an OpenAI-compatible server; several questions at a time.

    Raises:
        ValueError: no openai client.
    """

    def __init__(self, config: EndpointConfig, *, seed: int):
        self._server, self._seed = Server(config), seed

    def answer_all(self, questions: Iterable[Question], n: int) -> Iterator[Answered | Refusal]:
        """As `ModelAnswers`; a question is refused if one of its answers finally fails."""
        most = self._server.config.concurrency
        return concurrently(lambda question: self._ask(question, n), questions, most)

    def _ask(self, question: Question, n: int) -> Answered | Refusal:
        turns, item = [Message("user", question.text)], item_key(question.id)
        seeds = (answer_seed(self._seed, item, sample) for sample in range(n))
        try:
            texts = tuple(self._server.complete(turns, seed).text for seed in seeds)
        except (ConnectionError, ValueError) as error:
            return Refusal(question.id, str(error), passing=isinstance(error, ConnectionError))
        return Answered(question.id, texts)
