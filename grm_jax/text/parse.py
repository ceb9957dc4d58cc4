r"""What a sampled judgment says: principles, critique and scores, or the reason why it says none.

Models print other boxes and numbers before their scores, and quote what a response says. So the
scores are those of the judge's own result line at the end (`result_line`): the last `\boxed{}`, as
in the paper's extraction (equation 7), unless it is part of the critique. Around the box the
parser is tolerant; inside it is strict.

Reasons: `no_box`; `box_elsewhere`, there are boxes, but none in the result line; `open_box`, its
box is not closed; `wrong_count`, not one integer per response; `not_integer`; `out_of_range`. Of
another format (`answer_format`) `no_answer`, `answer_elsewhere`, `open_answer`, `not_a_letter`,
`not_yes_or_no` and `no_score` as well. What a model thinks before its answer (`reasoning`) is cut
off before.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from grm_jax.text.answer_format import (
    AnswerFormat,
    find_answer,
    read_details,
    read_scores,
    whole_numbers,
)
from grm_jax.text.result_line import Result, find_result


def _header(names: str) -> re.Pattern[str]:
    """A section's header at the start of a line, with or without markdown around it."""
    return re.compile(rf"^[#>*_\- \t]*(?:{names})[*_ \t]*:[*_]*", re.I | re.M)


CRITERIA = _header("specific criteria")
ANALYSIS = _header("analysis")


@dataclass(frozen=True)
class Parsed:
    """A judgment read: scores in the order shown, or None and then the reason, a short slug.

    criteria: for each criterion that a JSON answer scores, a score of each response.
    """

    principles: str
    critique: str
    scores: tuple[float, ...] | None
    reason: str | None = None
    criteria: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """An LLM-as-a-Judge answer read: the index (from 0) of the best response, or the reason."""

    principles: str
    critique: str
    index: int | None
    reason: str | None = None


def parse_judgment(
    text: str, n: int, low: int = 1, high: int = 10, *, label: str = "", cut_off: bool = False
) -> Parsed:
    """Principles, critique and exactly n integer scores in low..high; the rest as `find_result`."""
    result = find_result(text, label, cut_off=cut_off)
    numbers, reason = _numbers(text, result, n, low, high)
    return Parsed(*_sections(text, result.begins), numbers, reason)


def parse_choice(text: str, n: int, *, label: str = "", cut_off: bool = False) -> Choice:
    """Principles, critique and the choice among n responses, numbered from 1."""
    parsed = parse_judgment(text, 1, 1, n, label=label, cut_off=cut_off)
    index = int(parsed.scores[0]) - 1 if parsed.scores else None
    return Choice(parsed.principles, parsed.critique, index, parsed.reason)


def choice_place(text: str, label: str = "", start: int = 0) -> int:
    """Where in a text whose answer `parse_choice` can read the chosen number begins.

    start: where the answer begins.
    """
    answer = text[start:]
    box = find_result(answer, label).box
    assert box is not None
    return start + box.inside + len(answer[box.inside :]) - len(answer[box.inside :].lstrip())


def parse_answer(
    text: str, form: AnswerFormat, n: int, low: int = 1, high: int = 10, *, cut_off: bool = False
) -> Parsed:
    """Principles, critique and scores of n responses, where the template has a format of its own
    for the result; see `answer_format`."""
    result = find_answer(text, form, cut_off=cut_off)
    scores, reason = read_scores(text, result, form, n, low, high)
    principles, critique = _sections(text, result.begins)
    if form.value == "json" and scores is not None:
        said = read_details(text, result, n)
        principles, critique = said.principles or principles, said.critique or critique
        return Parsed(principles, critique, scores, reason, said.criteria)
    _, _, after = text[: result.begins].partition("<rubric>")
    rubric, closed, rest = after.partition("</rubric>")
    if closed and not principles:
        principles, critique = rubric.strip(), rest.strip()
    return Parsed(principles, critique, scores, reason)


def answer_place(text: str, form: AnswerFormat, start: int = 0, *, cut_off: bool = False) -> int:
    """Where in a text whose answer `parse_answer` can read its value begins.

    start: where the answer begins.
    """
    answer = text[start:]
    box = find_answer(answer, form, cut_off=cut_off).box
    assert box is not None
    return start + box.inside + len(answer[box.inside :]) - len(answer[box.inside :].lstrip())


def _numbers(
    text: str, result: Result, count: int, low: int, high: int
) -> tuple[tuple[int, ...] | None, str | None]:
    """The integers of the result's box, or None and the reason."""
    if result.box is None:
        return None, "box_elsewhere" if result.boxes else "no_box"
    if result.box.end is None:
        return None, "open_box"
    inside = text[result.box.inside : result.box.end]
    items = [item.strip() for item in inside.split(",")] if inside.strip() else []
    return whole_numbers(items, count, low, high)


def _sections(text: str, end: int) -> tuple[str, str]:
    """The principles, and the critique: the text between the headers that are there.

    Without an analysis header, the critique is everything before the result, which begins at `end`.
    """
    criteria = CRITERIA.search(text, 0, end)
    analysis = ANALYSIS.search(text, criteria.end() if criteria else 0, end)
    principles = ""
    if criteria and analysis:
        principles = text[criteria.end() : analysis.start()]
    start = analysis.end() if analysis else criteria.end() if criteria else 0
    return principles.strip(), text[start:end].strip()
