"""Prompts with real answers to them, read from rows: what items are made of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from grm_jax.data.config import ItemsConfig
from grm_jax.data.math_answers import final_answer
from grm_jax.data.math_pairs import Problem, to_problem
from grm_jax.data.real.config import RealSource
from grm_jax.data.real.faults.final import plain_number
from grm_jax.data.real.sentences import CODE, is_english, spans
from grm_jax.data.sources import BadRow, Source, load_examples
from grm_jax.randomness import item_key
from grm_jax.text.messages import Example

GOOD = 7.0  # a score from which an answer counts as good, of 10
PROMPT, ANSWER = 900, 650  # characters of a prompt, and of an answer, at most
LEAST = 25  # characters of an answer
# GSM8K's marks for a calculator, and its two ways to end.
CALCULATOR = re.compile(r"<<[^<>]*>>")
RESULT = re.compile(r"(?:####|A:)\s*(\S[^\n]*?)\s*\Z")
ENDS = ("The answer is {}.", "A: {}", "#### {}")


@dataclass(frozen=True)
class Answer:
    """An answer to a prompt.

    Attributes:
        good: a rater or a rule says so.
        score: the rater's, of 10.
        entire: it stands as it was given, and was not shortened to its first sentences.
    """

    text: str
    good: bool
    score: float | None = None
    entire: bool = True


@dataclass(frozen=True)
class Material:
    """A prompt of one turn, and its answers.

    Attributes:
        gold, working: of a problem, its answer and a solution.
        source, licence: where it comes from.
    """

    prompt: str
    answers: tuple[Answer, ...]
    source: str
    licence: str
    gold: str | None = None
    working: str | None = None

    @property
    def key(self) -> str:
        """The prompt without case, marks and blanks: two rows with the same one are one prompt."""
        return " ".join(re.findall(r"\w+", self.prompt.lower()))


def read_materials(
    sources: Sequence[RealSource], counts: Counter[str], answer: int = ANSWER
) -> list[Material]:
    """The prompts of all sources, ordered by a hash; rows that do not serve are counted by reason.

    answer: characters of an answer at most; what a rater scored is shortened to it.

    Raises:
        FileNotFoundError, ValueError: a source that cannot be read, or none of whose rows serves.
    """
    found: dict[str, Material] = {}
    for source in sources:
        before, rows = len(found), source.rows()
        opened = load_examples(
            rows.source, split=rows.split, name=rows.name, data_dir=rows.data_dir
        )
        read = _problems if source.holds == "problems" else _answered
        for material in read(source, rows, opened, counts, answer):
            if found.setdefault(material.key, material) is not material:
                counts["the same prompt again"] += 1
        if len(found) == before:
            raise ValueError(
                f"no row of {rows} serves: prompts of one turn in English are wanted, of at most "
                f"{PROMPT} characters, with "
                + ("a number as the answer." if source.holds == "problems" else "a good answer.")
            )
    return sorted(found.values(), key=lambda one: (item_key(one.key), one.key))


def _answered(
    source: RealSource, rows: ItemsConfig, opened: Source, counts: Counter[str], longest: int
) -> Iterator[Material]:
    for number, example in enumerate(opened):
        if rows.limit is not None and number == rows.limit:
            return
        counts["rows"] += 1
        if isinstance(example, BadRow):
            counts["rows that cannot be read"] += 1
            continue
        if source.holds == "answers":
            example = replace(example, responses=example.responses[:1], scores=None, label=1)
        prompt, answers = _prompt(example), tuple(_rated(example, longest))
        if len(example.prompt) > 1:
            counts["several turns"] += 1
        elif len(prompt) > PROMPT or not is_english(prompt):
            counts["a long prompt, or not in English"] += 1
        elif not any(one.good for one in answers):
            counts["no good answer in English"] += 1
        else:
            yield Material(prompt, answers, source.source, source.licence)


def _prompt(example: Example) -> str:
    """The first turn, and the input below it that instructions may have."""
    parts = example.prompt[0].content, example.meta.get("input")
    return "\n\n".join(part.strip() for part in parts if isinstance(part, str) and part.strip())


def _rated(example: Example, longest: int) -> Iterator[Answer]:
    """The answers in English, shortened to whole sentences where they are too long."""
    for index, text in enumerate(example.responses):
        score = example.scores[index] if example.scores else None
        best = bool(example.label) if example.n == 1 else index == example.label
        good = best if score is None else score >= GOOD
        text = text.strip()
        if len(text) < LEAST or not is_english(text):
            continue
        kept = _shortened(text, longest)
        if kept is not None:
            yield Answer(kept, good, score, entire=kept == text)


def _shortened(text: str, longest: int) -> str | None:
    """The text up to a length, at the last full stop before; None where there is none, or code."""
    if len(text) <= longest:
        return text
    ends = [end for _, end in spans(text[:longest])[:-1] if text[end - 1] in ".!?"]
    kept = text[: ends[-1]] if ends else ""
    return kept if len(kept) > longest / 3 and not CODE.search(kept) else None


def _problems(
    source: RealSource, rows: ItemsConfig, opened: Source, counts: Counter[str], longest: int
) -> Iterator[Material]:
    for number, (_, _, row) in enumerate(opened.raw()):
        if rows.limit is not None and number == rows.limit:
            return
        counts["rows"] += 1
        try:
            problem = to_problem(row)
        except ValueError:
            counts["rows that cannot be read"] += 1
            continue
        prompt, answers = " ".join(problem.text.split()), tuple(_solutions(problem, longest))
        if plain_number(problem.gold) is None:
            counts["no number as the answer"] += 1
        elif len(prompt) > PROMPT or not is_english(prompt):
            counts["a long prompt, or not in English"] += 1
        elif not any(one.good for one in answers):
            counts["no right solution"] += 1
        else:
            working = next(one.text for one in answers if one.good)
            gold = problem.gold.strip("$")
            yield Material(prompt, answers, source.source, source.licence, gold, working)


def _solutions(problem: Problem, longest: int) -> Iterator[Answer]:
    """The solutions that end in a number, all in the same form, and whether it is the right one."""
    form = ENDS[item_key(problem.id) % len(ENDS)]
    gold, texts = plain_number(problem.gold), [problem.solution or "", *problem.answers]
    for text in dict.fromkeys(texts):
        text = CALCULATOR.sub("", text).strip()
        said = final_answer(text)
        if said is None or plain_number(said) is None or not LEAST <= len(text) <= longest:
            continue
        text = RESULT.sub(lambda found: form.format(found[1]), text)
        yield Answer(text, plain_number(said) == gold)
