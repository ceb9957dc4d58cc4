"""`EndpointJudge`: judgments from a model behind an OpenAI-compatible server.

Prompts, orders and parser are those of `Judge`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from grm_jax.judging.asking import Asking, read_judgment
from grm_jax.judging.judgment import Judgment, Refusal, Sampled, check_samples
from grm_jax.judging.kinds import KINDS, Writes
from grm_jax.judging.principles import Written, principles_in, query_messages, query_stream
from grm_jax.judging.server import EndpointConfig, Server, Usage
from grm_jax.judging.token_prob import (
    check_count,
    has_odds,
    server_shares,
    server_yes,
    weighed,
)
from grm_jax.randomness import item_key, request_seed, response_order
from grm_jax.text.messages import Example
from grm_jax.text.parse import answer_place
from grm_jax.text.prompts import load_templates
from grm_jax.text.reasoning import answer_start

T = TypeVar("T")
R = TypeVar("R")


class EndpointJudge:
    """Asks a server for judgments, several at a time; `usage` counts what that takes.

    Args:
        seed: with what an Example shows and the number of a sample it decides the order of the
            responses and the seed that is sent.
        kind, training, hinted, reference: as for `Judge`.

    Raises:
        ValueError, FileNotFoundError: no openai client, or no such or no readable templates.
    """

    on_devices = False

    def __init__(
        self,
        config: EndpointConfig,
        *,
        seed: int = 0,
        training: bool = False,
        hinted: bool = False,
        reference: bool = False,
        kind: Writes = "grm",
    ):
        self.config, self.seed, self.kind = config, seed, kind
        self._server = Server(config)
        templates = load_templates(config.templates)
        self.asking = Asking(templates, KINDS[kind].task, training, hinted, reference)
        self._odds = has_odds(self.asking, KINDS[kind].odds)

    # Principles that are given, see `principles`.

    @property
    def made_by(self) -> Mapping[str, Any]:
        """What decides the principles that it writes, beside the prompt."""
        names = ["url", "model", "temperature", "top_p", "max_tokens"]
        names += ["extra_body"] if self.config.extra_body else []
        return {name: getattr(self.config, name) for name in names} | {"seed": self.seed}

    def write_principles(self, examples: Iterable[Example]) -> Iterator[Written | Refusal]:
        """Principles for the query of each Example, in the order in which they are answered; the
        responses are not read."""
        return concurrently(self._write, examples, self.config.concurrency)

    def opening(self, example: Example) -> Sequence[int]:
        """None: a server begins its own answers."""
        return ()

    def _write(self, example: Example) -> Written | Refusal:
        template = self.asking.template(2)
        try:
            turns = query_messages(template, example)
            seed = request_seed(self.seed, item_key(query_stream(turns)), 0)
            answer = self._server.complete(turns, seed)
        except (ConnectionError, ValueError) as error:
            return Refusal(example.id, str(error), passing=isinstance(error, ConnectionError))
        principles = principles_in(answer.text, template, cut_off=answer.cut_off)
        return Written(example, principles, answer.completion_tokens)

    @property
    def usage(self) -> Usage:
        """What was asked and answered so far."""
        return self._server.usage

    def sample_all(self, examples: Iterable[Example], k: int = 8) -> Iterator[Sampled | Refusal]:
        """k judgments for each Example, in the order in which Examples are finished.

        An Example is refused if one of its questions finally fails; the others go on. Memory does
        not grow with the number of Examples.

        Raises:
            ValueError: k is not positive.
        """
        check_samples(k)
        most = self.config.concurrency
        # One thread follows each Example; those that ask are another pool's, shared by all.
        with _threads(most) as askers:
            yield from concurrently(partial(self._sample, askers, k), examples, most)

    def _sample(self, askers: ThreadPoolExecutor, k: int, example: Example) -> Sampled | Refusal:
        """All judgments of one Example; the first failure takes back what was not yet asked."""
        try:
            judgments = askers.map(lambda sample: self._ask(example, sample), range(k))
            return Sampled(example, tuple(judgments))
        except ConnectionError as error:  # the server may answer at the next try
            return Refusal(example.id, str(error), passing=True)
        except ValueError as error:
            return Refusal(example.id, str(error))

    def _ask(self, example: Example, sample: int) -> Judgment:
        """One judgment. Runs on a thread of a pool.

        Raises:
            ValueError: there is none, and why. ConnectionError: nor was there an answer.
        """
        item, n = item_key(example.digest), example.n
        order = response_order(self.seed, item, sample, n)
        if self._odds:
            check_count(n)
        template, turns = self.asking.template(n), self.asking.messages(example, order)
        seed = request_seed(self.seed, item, sample)
        answer = self._server.complete(turns, seed, logprobs=self._odds)
        judgment = read_judgment(
            answer.text,
            template,
            sample=sample,
            order=order,
            tokens=answer.completion_tokens,
            cut_off=answer.cut_off,
            start=answer_start(answer.text),
        )
        if not self._odds or judgment.scores is None:
            return judgment
        url, form = self.config.url, template.answer
        if form is None:
            return weighed(judgment, server_shares(answer, n, url, template.label))
        place = answer_place(answer.text, form, cut_off=answer.cut_off)
        return weighed(judgment, server_yes(answer, place, url))


def concurrently(ask: Callable[[T], R], items: Iterable[T], most: int) -> Iterator[R]:
    """What `ask` returns for each item, on up to `most` threads, in the order in which they finish.

    Items are taken as threads are free for them; stopping early starts no more.
    """
    stream, in_flight, finished = iter(items), set[Future[R]](), set[Future[R]]()
    with _threads(most) as pool:
        while True:
            # New items are begun before results are handed out: what is done with those may take
            # long.
            while len(in_flight) < most and (item := next(stream, None)) is not None:
                in_flight.add(pool.submit(ask, item))
            yield from [future.result() for future in finished]
            if not in_flight:
                return
            finished, in_flight = wait(in_flight, return_when=FIRST_COMPLETED)


@contextmanager
def _threads(most: int) -> Iterator[ThreadPoolExecutor]:
    """A pool that is left at once, without what has not begun."""
    pool = ThreadPoolExecutor(most)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
