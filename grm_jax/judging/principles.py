"""Principles that are given: written once per query, or by people; a judgment then costs less.

They are shown in the prompt where the template has the field `{principles}`. Where it has none, a
model of ours finds them as the beginning of its own answer, and goes on with the analysis.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from grm_jax.judging.asking import Asking
from grm_jax.judging.judgment import Refusal, Sampled, identity
from grm_jax.judging.rubric import Rubric, is_rubric, read_rubric
from grm_jax.judging.samples import SampleSource
from grm_jax.paths import expanded
from grm_jax.processes import several
from grm_jax.text.files import read_object
from grm_jax.text.messages import Example, Message
from grm_jax.text.parse import ANALYSIS, CRITERIA
from grm_jax.text.prompts import Template, render
from grm_jax.text.tokenizer import Tokenizer

_TOGETHER = 256  # Examples whose principles are written before the first of them is judged
_WORDS_AFTER = (
    " The",
    " 1",
    " A",
    "\nA",
)  # what may follow, to find tokens that do not depend on it


@dataclass(frozen=True)
class Written:
    """Principles that a judge wrote for an Example's query, "" if it wrote none; its tokens."""

    example: Example
    principles: str
    tokens: int


@dataclass
class PrinciplesUsage:
    """What given principles cost and saved.

    queries, written: for how many queries they were written, and how many tokens that took.
    judgments, saved: how many judgments were given theirs, and how many tokens these did not write.
    """

    queries: int = 0
    written: int = 0
    judgments: int = 0
    saved: int = 0

    def summary(self) -> str:
        """In one sentence."""
        return (
            f"Principles were given to {self.judgments} judgments, which did without writing "
            f"{self.saved} tokens; they were written for {self.queries} queries, in {self.written} "
            "tokens."
        )


class Writer(Protocol):
    """A judge that can write principles: `Judge`, `EndpointJudge`."""

    asking: Asking

    @property
    def made_by(self) -> Mapping[str, Any]:
        """What decides the principles that it writes, beside the prompt."""
        ...

    def write_principles(self, examples: Sequence[Example]) -> Iterator[Written | Refusal]:
        """Principles for the query of each Example, in any order; the responses are not read."""
        ...

    def opening(self, example: Example) -> Sequence[int]:
        """The tokens of given principles with which the judge's answer begins."""
        ...


def query_messages(template: Template, example: Example) -> list[Message]:
    """The turns that ask for principles for an Example's query alone.

    By the template's section `criteria`; a model whose own template has none is asked as ever, with
    responses in which there is nothing.
    """
    blank = Example(example.prompt, [""] * (1 + template.chooses))
    if "criteria" in template.sections:
        prompt = {"prompt": template.sections["criteria"]}
        template = replace(template, chooses=False, sections={**template.sections, **prompt})
    return render(blank, template)


def query_stream(turns: Sequence[Message]) -> str:
    """The name of the random stream of such a question."""
    asked = json.dumps([asdict(turn) for turn in turns])
    return f"principles {asked}"


def principles_in(text: str, template: Template, *, cut_off: bool) -> str:
    """The principles in the answer to such a question; "" where there are none."""
    alone = "criteria" in template.sections
    head = CRITERIA.search(text)
    rest = ANALYSIS.search(text, head.end()) if head else None
    if head and rest:
        return text[head.end() : rest.start()].strip()
    if not alone or cut_off:
        return ""
    return text[head.end() if head else 0 :].strip()


def takes_opening(example: Example, template: Template) -> bool:
    """Whether given principles are the beginning of the answer, as the prompt has no place."""
    shown = template.has("principles") or template.answer is not None
    return example.principles is not None and not shown


def principles_from(begun: str, text: str) -> str:
    """The principles of an answer that was begun: those that were given, and what the judge may
    have added before its analysis."""
    rest = ANALYSIS.search(text)
    return (begun + text[: rest.start() if rest else 0]).partition(":")[2].strip()


def opening_tokens(principles: str, tokenizer: Tokenizer) -> list[int]:
    """The beginning of an answer in our format, up to the analysis, as a model would write it: only
    tokens that do not depend on the words that follow."""
    begun = f"Specific Criteria: {principles}\nAnalysis:"
    spelled = [tokenizer.encode(begun + after) for after in _WORDS_AFTER]
    alike = (len(set(ids)) == 1 for ids in zip(*spelled, strict=False))
    count = next((i for i, same in enumerate(alike) if not same), min(map(len, spelled)))
    return spelled[0][:count]


class GivenPrinciples:
    """Gives Examples their principles. A row that has its own keeps them.

    Args:
        where: a file with a rubric (see `read_rubric`), or a folder in which principles are kept:
            they are looked up there by a hash of the query, of what the judge is asked, and of the
            judge and its settings, and what is missing is written by the judge.
        judge: writes what is missing.

    Raises:
        ValueError, FileNotFoundError: no such rubric; a job of several processes and a folder.
    """

    def __init__(self, where: str | Path, judge: Writer):
        self.usage = PrinciplesUsage()
        self._judge, self._template = judge, judge.asking.template(2)
        self._rubric: Rubric | None = None
        self._folder = expanded(where)
        if is_rubric(self._folder):
            self._rubric = read_rubric(self._folder)
        elif several():
            raise ValueError(
                f"principles in {where} are written as they are needed, by one process: run this "
                "once with a single process, or give a file."
            )
        else:
            self._folder.mkdir(parents=True, exist_ok=True)
        self._made_by = None if self._rubric else dict(judge.made_by)

    def give(self, examples: Sequence[Example]) -> list[Example]:
        """The Examples with principles; one without where there are none and none were written."""
        shown = [self.known(example) for example in examples]
        if self._rubric is not None:
            return shown
        missing = {self.file(e): e for e in shown if e.principles is None}
        if missing:
            for one in self._judge.write_principles(list(missing.values())):
                if isinstance(one, Written):  # what is refused, judging refuses again
                    self.keep(one)
            shown = [self.known(example) for example in shown]
        return shown

    def known(self, example: Example) -> Example:
        """An Example with the principles that are there already; as it is where there are none."""
        if example.principles is not None:
            return example
        found = self._rubric.of(example) if self._rubric else read_kept(self.file(example))
        return replace(example, principles=found) if found else example

    def keep(self, written: Written) -> None:
        """Counts what was written, and keeps it in the folder if there is anything."""
        self.usage.queries += 1
        self.usage.written += written.tokens
        if written.principles:
            keep(self.file(written.example), written, self._made_by or {})

    @property
    def writes(self) -> bool:
        """Whether the judge writes what is missing."""
        return self._rubric is None

    def count(self, example: Example, judgments: int) -> None:
        """Counts judgments of an Example that was given principles."""
        if example.principles:
            self.usage.judgments += judgments
            self.usage.saved += judgments * len(self._judge.opening(example))

    def file(self, example: Example) -> Path:
        """Where the principles for an Example's query are kept."""
        asked = [asdict(turn) for turn in query_messages(self._template, example)]
        named = json.dumps([self._made_by, asked], sort_keys=True)
        return self._folder / f"{hashlib.sha256(named.encode()).hexdigest()[:32]}.json"


def read_kept(file: Path) -> str | None:
    """The principles in a file of the folder; None where there is no file.

    Raises:
        ValueError: it holds something else.
    """
    if not file.exists():
        return None
    principles = read_object(file).get("principles")
    if not isinstance(principles, str):
        raise ValueError(f"{file} has no text `principles`: delete it, and they are written anew.")
    return principles


def keep(file: Path, written: Written, made_by: Mapping[str, Any]) -> None:
    """Writes principles to a file of the folder, completely or not at all."""
    turns = [asdict(turn) for turn in written.example.prompt]
    content = {
        "principles": written.principles,
        "query": turns,
        "made_by": dict(made_by),
        "tokens": written.tokens,
    }
    part = file.with_name(f".{file.stem}.{os.getpid()}")
    part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(part, file)


class WithPrinciples:
    """A source whose Examples are given principles before they are judged.

    Results have the Examples as they came. Some hundred Examples are taken at a time, for which
    missing principles are written first.
    """

    def __init__(self, source: SampleSource, given: GivenPrinciples):
        self.source, self.given = source, given
        self.on_devices = source.on_devices

    def sample_all(
        self, examples: Iterable[Example], k: int, **settings: Any
    ) -> Iterator[Sampled | Refusal]:
        """As the source's."""
        stream = iter(examples)
        while chunk := list(islice(stream, _TOGETHER)):
            shown = self.given.give(chunk)
            waiting: dict[str, deque[tuple[Example, Example]]] = {}
            for example, asked in zip(chunk, shown, strict=True):
                waiting.setdefault(example.id, deque()).append((example, asked))
            for result in self.source.sample_all(shown, k, **settings):
                example, asked = waiting[identity(result)].popleft()
                if isinstance(result, Sampled):
                    self.given.count(asked, len(result.judgments))
                    result = replace(result, example=example)
                yield result
