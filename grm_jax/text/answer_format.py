r"""How a judge states its result where that is not our box: the section `answer` of a template.

The section is the text of the result with a field for its value: `[[{letter}]]`,
`<score>{score}</score>`, `[RESULT] {score}`, `Judgement: {yes}`, or `{json}`. The fields:

- `{box}`: our box, see `parse`;
- `{score}`: a whole number for the one response that is shown;
- `{letter}`: A for the best response, if it was shown first, B for the second, ..; for a tie the
  word tie, or the letter after the last response's;
- `{yes}`: Yes or No about the one response that is shown; its score is the probability of Yes;
- `{json}`: `{"score": 7}` of one response, `{"scores": [7, 4]}`, `[7, 4]` or
  `[{"score": 7}, {"score": 4}]` of all, beside whatever else the object holds; of that `criteria`
  and `analysis` are read, see `Details`.

Spaces, line ends, letter case and markdown emphasis do not matter.
"""

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from grm_jax.text.result_line import WORD, Box, Result, states_result

Value = Literal["score", "letter", "yes", "json"]
VALUES: tuple[Value, ...] = get_args(Value)
OURS = "{box}"
FIELD = re.compile(r"\{(\w+)\}")
GAP = r"[\s*_`$]{0,8}"  # what may stand between the words of the text of the result
LAST_VALUES = 100  # of JSON: how many places where one may begin are tried, from the end
VALUE_START = re.compile(r"^[ \t*_`]*(?=[\[{])", re.M)
INTEGER = re.compile(r"[+-]?[0-9]+")
YES_NO = ("yes", "no")
ANY_YES_NO = re.compile(r"\b(?P<value>yes|no)\b", re.I)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class AnswerFormat:
    """The text of a result: what stands before the value, what the value is, what stands after."""

    before: str
    value: Value
    after: str

    @classmethod
    def of(cls, text: str) -> "AnswerFormat | None":
        """The format that the section `answer` describes; None for our box.

        Raises:
            ValueError: it describes none; says what is missing.
        """
        if text.strip() == OURS:
            return None
        fields = FIELD.findall(text)
        if len(fields) != 1 or fields[0] not in VALUES:
            listed = ", ".join(f"{{{name}}}" for name in VALUES)
            raise ValueError(f"{text!r} must have exactly one of the fields {listed}")
        before, _, after = FIELD.split(text.strip())
        if fields[0] in ("score", "letter") and not WORD.search(before) and not after.strip():
            raise ValueError(
                f"{text!r} says nothing but {{{fields[0]}}}, which may stand anywhere in an "
                f"answer: put a word or brackets around it, such as Score: {{score}}"
            )
        return cls(before.strip(), fields[0], after.strip())

    @property
    def chooses(self) -> bool:
        """Whether it names the best response instead of scoring each."""
        return self.value == "letter"

    @property
    def one(self) -> bool:
        """Whether it is about one response, so that several are shown one at a time."""
        return self.value in ("score", "yes")

    @property
    def words(self) -> tuple[str, ...]:
        """The words whose probabilities are the score; none where the score is written."""
        return YES_NO if self.value == "yes" else ()

    @cached_property
    def opening(self) -> re.Pattern[str]:
        """What stands before the value."""
        return re.compile(_flexible(self.before), re.I)

    @cached_property
    def rest(self) -> re.Pattern[str]:
        """The value, and what stands after it; directly after what stands before."""
        if self.after:
            inside = rf"(?P<value>[^\n<>\[\]{{}}]{{0,40}}?){GAP}{_flexible(self.after)}"
        else:
            inside = r"(?P<value>[^\s<>\[\](){}*_`$]{1,40})"
        return re.compile(GAP + inside, re.I)


@dataclass(frozen=True)
class Details:
    """What a JSON answer says beside its scores.

    Attributes:
        criteria: for each criterion a score of each response, in the order shown, of
            `"criteria": {"accuracy": [9, 2]}` (of one response a number will do).
        principles: the names of these criteria, or `criteria` where it is a text.
        critique: `analysis`, where it is a text.
    """

    criteria: Mapping[str, tuple[float, ...]]
    principles: str
    critique: str


def find_answer(text: str, form: AnswerFormat, *, cut_off: bool = False) -> Result:
    """The result that an answer states, in this format: the last that there is, if the answer ends
    with it and `states_result`; so nothing that is quoted or reported.

    An answer that was cut off can only begin with its result, as a single word does; and so may one
    whose format is nothing but {yes}.
    """
    boxes = _values(text, form) if form.value == "json" else _marks(text, form)
    if not boxes:
        return Result(None, False, len(text))
    first, last = boxes[0], boxes[-1]
    if not cut_off and states_result(text, last):
        return Result(last, True, last.start)
    begins = not WORD.search(text, 0, first.start)
    if begins and (not form.before or (cut_off and first is last)):
        return Result(first, True, first.start)
    return Result(None, True, len(text))


def read_scores(
    text: str, result: Result, form: AnswerFormat, n: int, low: int, high: int
) -> tuple[tuple[float, ...] | None, str | None]:
    """A score for each of n responses in the order shown, or None and the reason.

    Of a choice the best has 1 and the others 0; in a tie all have 1 / n. Of {yes} it is 1 or 0,
    in the place of its probability.
    """
    if result.box is None:
        return None, "answer_elsewhere" if result.boxes else "no_answer"
    if result.box.end is None:
        return None, "open_answer"
    inside = text[result.box.inside : result.box.end].strip().rstrip(".,;:!")
    if form.value == "json":
        return _json_scores(text[result.box.inside : result.box.end], n, low, high)
    if form.value == "letter":
        return _choice(inside.strip("()\"' "), n)
    if n != 1:
        return None, "wrong_count"
    if form.value == "yes":
        word = inside.lower()
        return ((float(word == "yes"),), None) if word in YES_NO else (None, "not_yes_or_no")
    return whole_numbers([inside], 1, low, high)


def read_details(text: str, result: Result, n: int) -> Details:
    """What a JSON answer with n scores says beside them."""
    value = None
    if result.box is not None and result.box.end is not None:
        value = json.JSONDecoder(strict=False).decode(text[result.box.inside : result.box.end])
    said = value if isinstance(value, dict) else {}
    criteria = said.get("criteria")
    scores: dict[str, tuple[float, ...]] = {}
    for name, given in criteria.items() if isinstance(criteria, dict) else ():
        numbers = given if isinstance(given, list) else [given]
        if len(numbers) == n and all(map(_is_number, numbers)):
            scores[name] = tuple(numbers)
    principles = criteria if isinstance(criteria, str) else ", ".join(scores)
    analysis = said.get("analysis")
    return Details(
        scores, principles.strip(), analysis.strip() if isinstance(analysis, str) else ""
    )


def _is_number(value: Any) -> bool:
    """Whether it is one that a float can hold."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max


def whole_numbers(
    items: list[str], count: int, low: int, high: int
) -> tuple[tuple[int, ...] | None, str | None]:
    """Exactly `count` integers in low..high, or None and the reason."""
    if len(items) != count:
        return None, "wrong_count"
    if not all(INTEGER.fullmatch(item) for item in items):
        return None, "not_integer"
    # Only 20 digits are converted, more than any scale has: Python refuses thousands of them.
    numbers = tuple(int(item[:20]) for item in items)
    if not all(low <= number <= high for number in numbers):
        return None, "out_of_range"
    return numbers, None


def _flexible(text: str) -> str:
    """A pattern for a text, whatever its spaces, line ends and emphasis."""
    pieces = re.findall(r"\w+|[^\w\s]", re.sub(r"[*`]", "", text))
    return GAP.join(map(re.escape, pieces))


def _marks(text: str, form: AnswerFormat) -> list[Box]:
    """Wherever the result could stand, each with the end of its value, or None where it is open."""
    boxes = []
    if not form.before:
        found = ((mark, mark) for mark in ANY_YES_NO.finditer(text))
    else:
        opened = form.opening.finditer(text)
        found = ((start, form.rest.match(text, start.end())) for start in opened)
    line = checked = 0
    for start, rest in found:
        newline = text.rfind("\n", checked, start.start())
        line, checked = (newline + 1 if newline >= 0 else line), start.start()
        if rest is None:
            boxes.append(Box(line, start.start(), start.end(), None))
        else:
            boxes.append(Box(line, start.start(), *rest.span("value")))
    return boxes


def _values(text: str, form: AnswerFormat) -> list[Box]:
    """The JSON objects and lists of the answer, outermost, each at the start of a line or after
    what the format puts before it."""
    pattern = form.opening if form.before else VALUE_START
    starts = list(pattern.finditer(text))[-LAST_VALUES:]
    boxes, done = list[Box](), 0
    decoder = json.JSONDecoder(strict=False)
    for start in starts:
        inside = start.end() + len(text[start.end() :]) - len(text[start.end() :].lstrip())
        if start.start() < done or text[inside : inside + 1] not in ("[", "{"):
            continue
        line = text.rfind("\n", 0, start.start()) + 1
        try:
            _, done = decoder.raw_decode(text, inside)
        except (ValueError, RecursionError):
            continue
        boxes.append(Box(line, start.start(), inside, done))
    return boxes


def _choice(inside: str, n: int) -> tuple[tuple[float, ...] | None, str | None]:
    letter = inside.upper()
    if letter == "TIE" or (len(letter) == 1 and LETTERS.find(letter) == n):
        return (1 / n,) * n, None
    if len(letter) != 1 or letter not in LETTERS:
        return None, "not_a_letter"
    if LETTERS.index(letter) >= n:
        return None, "out_of_range"
    return tuple(float(LETTERS.index(letter) == i) for i in range(n)), None


def _json_scores(
    inside: str, n: int, low: int, high: int
) -> tuple[tuple[int, ...] | None, str | None]:
    numbers = _scores_in(json.JSONDecoder(strict=False).decode(inside))
    if not isinstance(numbers, list):
        return None, "no_score"
    return whole_numbers([_digits(number) for number in numbers], n, low, high)


def _scores_in(value: Any) -> Any:
    """The scores of a JSON value, as a list; None where it has none."""
    if isinstance(value, dict):
        value = value["scores"] if "scores" in value else value.get("score")
        return value if isinstance(value, list | None) else [value]
    if isinstance(value, list):
        return [item.get("score") if isinstance(item, dict) else item for item in value]
    return None


def _digits(value: Any) -> str:
    """A number as JSON wrote it; 7.0 is the whole number that it equals."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else str(value)
    if isinstance(value, int) and abs(value) >= 10**20:
        return "9" * 20
    return str(value)
