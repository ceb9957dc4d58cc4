"""Principles in a server: given to every question, and written once per query by its own engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from grm_jax.judging.judge import Judge
from grm_jax.judging.principles import (
    GivenPrinciples,
    Written,
    principles_in,
    query_messages,
    query_stream,
)
from grm_jax.sampling.request import Completion
from grm_jax.serve.errors import as_refusals
from grm_jax.serve.job import Prompt
from grm_jax.text.messages import Example


class ServedPrinciples:
    """Gives Examples their principles; callers with one query wait for the same ones.

    Args:
        given: a rubric, or a folder.
        judge: writes.
        complete: has the engine continue a prompt.
        watch: is told how many tokens were written.
    """

    def __init__(
        self,
        given: GivenPrinciples,
        judge: Judge,
        complete: Callable[[Prompt], Awaitable[tuple[Completion[Any], ...]]],
        watch: Callable[[int], object],
    ):
        self._given, self._judge, self._complete, self._watch = given, judge, complete, watch
        self._writing: dict[Path, asyncio.Task[None]] = {}

    async def give(self, example: Example) -> Example:
        """The Example with principles; as it is where there are none and none were written."""
        found = await asyncio.to_thread(self._given.known, example)
        if found.principles is not None or not self._given.writes:
            return found
        file = self._given.file(example)
        if file not in self._writing:
            task = self._writing[file] = asyncio.ensure_future(self._write(example))
            task.add_done_callback(lambda _: self._writing.pop(file, None))
        # Whoever asked first may go away while others wait.
        await asyncio.shield(self._writing[file])
        return await asyncio.to_thread(self._given.known, example)

    async def _write(self, example: Example) -> None:
        template, tokenizer = self._judge.asking.template(2), self._judge.folder.tokenizer
        with as_refusals():
            turns = query_messages(template, example)
            tokens = tokenizer.encode_chat(turns)
        (completion,) = await self._complete(Prompt(tokens, query_stream(turns)))
        text = tokenizer.decode_completion(completion.tokens)
        principles = principles_in(text, template, cut_off=not completion.finished)
        self._watch(len(completion.tokens))
        self._given.keep(Written(example, principles, len(completion.tokens)))
