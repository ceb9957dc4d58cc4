"""Turns of a conversation, and the Example: what is judged, before any model is involved."""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Integral
from typing import Any

# The names that data sets use, and ours.
ROLES = {
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "chatbot": "assistant",
    "bot": "assistant", "system": "system", "developer": "system",
}  # fmt: skip


def repair_surrogates(text: str) -> str:
    """The text with surrogate pairs joined and lone surrogates replaced by U+FFFD.

    JSON may hold lone surrogates; no tokenizer, file or terminal takes them.
    """
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@dataclass(frozen=True)
class Message:
    """One turn: who speaks ("user", "assistant" or "system"), and the text."""

    role: str
    content: str

    def __post_init__(self):
        if self.role not in ("user", "assistant", "system"):
            raise ValueError(f"role {self.role!r} is none of user, assistant, system")
        if not isinstance(self.content, str):
            raise ValueError(f"the content of a {self.role} turn is {kind(self.content)}, not text")
        object.__setattr__(self, "content", repair_surrogates(self.content))


def kind(value: Any) -> str:
    """What a value is, in the words of a person who wrote a JSON file."""
    names = {bool: "true or false", dict: "an object", list: "a list", str: "text"}
    numbers = {int: "a number", float: "a number", type(None): "null"}
    return (names | numbers).get(type(value), f"a {type(value).__name__}")


def shown(value: Any) -> str:
    """A value as errors quote it: shortened, and safe to print."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # more digits or levels than Python writes
        return f"{kind(value)} beyond all bounds"
    return text if len(text) <= 80 else f"{text[:77]}..."


def joined_parts(content: Any, where: str) -> str:
    """The text of a turn, which may come in parts such as {"type": "text", "text": ..}.

    where: names the turn in errors. Raises ValueError with a sentence for what is no text.
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise ValueError(f"the content of {where} is {kind(content)}: only text is read")
    texts = []
    for part in content:
        text = part
        if isinstance(part, Mapping):
            text = part.get("text") if part.get("type") in (None, "text") else None
        if not isinstance(text, str):
            named = part.get("type") if isinstance(part, Mapping) else None
            what = f"a part of type {shown(named)}" if named else f"a part that is {kind(part)}"
            raise ValueError(f"the content of {where} holds {what}: only text is read")
        texts.append(text)
    return "\n".join(texts)


def turn_role(turn: Mapping[str, Any]) -> Any:
    """Who speaks, in our word for it where it is known, else as it stands."""
    role = turn.get("role") if turn.get("role") is not None else turn.get("from")
    return ROLES.get(role.lower(), role) if isinstance(role, str) else role


def as_messages(prompt: str | Sequence[Message | Mapping[str, Any]]) -> tuple[Message, ...]:
    """A prompt of any accepted form as turns.

    Accepted: one string (a user turn), or a list of Message, {"role", "content"} or
    {"from", "value"}, where the content is text or a list of parts of text. Raises ValueError with
    a sentence for anything else.
    """
    if isinstance(prompt, str):
        return (Message("user", prompt),)
    if not isinstance(prompt, Sequence):
        raise ValueError(f"the prompt is {kind(prompt)}: give text, or a list of messages")
    turns = []
    for number, turn in enumerate(prompt, 1):
        if isinstance(turn, Message):
            turns.append(turn)
            continue
        if not isinstance(turn, Mapping):
            raise ValueError(
                f"turn {number} of the prompt is {kind(turn)}: give an object with role and content"
            )
        role = turn_role(turn)
        if not isinstance(role, str) or role not in ROLES.values():
            raise ValueError(
                f"turn {number} of the prompt has the role {shown(role)}: "
                f"only {', '.join(ROLES)} are read"
            )
        content = turn.get("content") if turn.get("content") is not None else turn.get("value")
        turns.append(Message(role, joined_parts(content, f"turn {number}")))
    return tuple(turns)


def fold_system(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The turns with a leading system turn put before the first user turn's text.

    Gemma-2 has no system role. A system turn anywhere else is a ValueError.
    """
    turns = tuple(messages)
    if len(turns) > 1 and turns[0].role == "system" and turns[1].role == "user":
        joined = f"{turns[0].content}\n\n{turns[1].content}".strip()
        turns = (Message("user", joined), *turns[2:])
    if any(turn.role == "system" for turn in turns):
        raise ValueError("a system turn can only come first, directly before a user turn")
    return turns


@dataclass(frozen=True, init=False)
class Example:
    """A prompt and n >= 1 responses to judge, with what is known about them.

    Args:
        prompt: turns, the last one the user's; text or a list of {"role", "content"} is accepted. A
            leading system turn is put before the first user turn's text.
        responses: their texts.
        id: the row's own, or else a hash of prompt, responses, reference and principles.
        label: for n >= 2 the index of the best response; for n == 1 whether it is right (1) or
            wrong (0); None where unknown or tied.
        scores: gold scores, one per response.
        reference: the right answer, or a good one.
        principles: criteria to judge by.
        strength: HelpSteer2's preference strength, 1 slight to 3 strong, 0 a tie.
        meta: whatever else the row had.
        line: where it begins in its text file, or the row's number.
        own_id: the row's id as it was there, a number or text.
        system: the system turn's text, with which the first turn begins.

    Raises:
        ValueError: it cannot be judged, and why.
    """

    prompt: tuple[Message, ...]
    responses: tuple[str, ...]
    id: str = ""
    label: int | None = None
    scores: tuple[float, ...] | None = None
    reference: str | None = None
    principles: str | None = None
    strength: int | None = None
    meta: Mapping[str, Any] = field(default_factory=dict, compare=False)
    line: int | None = field(default=None, compare=False)
    own_id: int | float | str | None = field(default=None, compare=False)
    system: str | None = field(default=None, compare=False)

    def __init__(
        self,
        prompt: str | Sequence[Message | Mapping[str, Any]],
        responses: Sequence[str],
        id: str = "",
        label: int | None = None,
        scores: Sequence[float] | None = None,
        reference: str | None = None,
        principles: str | None = None,
        strength: int | None = None,
        meta: Mapping[str, Any] | None = None,
        line: int | None = None,
        own_id: int | float | str | None = None,
        system: str | None = None,
    ):
        given = as_messages(prompt)
        values = {
            "prompt": _check_prompt(given),
            "responses": _check_responses(responses),
            "reference": _check_text("reference", reference),
            "principles": _check_text("principles", principles),
            "meta": dict(meta or {}),
            "line": line,
            "own_id": repair_surrogates(own_id) if isinstance(own_id, str) else own_id,
        }
        n = len(values["responses"])
        values["label"] = _check_label(label, n)
        values["scores"] = _check_scores(scores, n)
        values["strength"] = _check_strength(strength)
        if not isinstance(id, str):
            raise ValueError(f"the id {shown(id)} is {kind(id)}: give text")
        values["id"] = repair_surrogates(id) or _content_id(values)
        leading = given[0].content if given[0].role == "system" else system
        values["system"] = leading if leading and leading.strip() else None
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def n(self) -> int:
        """The number of responses."""
        return len(self.responses)

    @property
    def turns(self) -> tuple[Message, ...]:
        """The prompt with the system turn, if there is one, as a turn of its own."""
        (first, *others), system = self.prompt, self.system
        before = "" if system is None else f"{system.lstrip()}\n\n"
        if system is not None and first.content == system.strip():
            before = first.content  # the user said nothing
        if system is None or not first.content.startswith(before):
            return self.prompt
        own = Message("user", first.content.removeprefix(before))
        return (Message("system", system), own, *others)

    @cached_property
    def digest(self) -> str:
        """A hash of all that a judge can be shown: prompt, responses, reference and principles.

        It names the Example's random stream and its result, whatever its id and its position.
        """
        return _content_id(vars(self))

    def permuted(self, order: Sequence[int]) -> "Example":
        """The example with response j taken from order[j]; label and scores follow, id stays."""
        order = [int(i) for i in order]
        if sorted(order) != list(range(self.n)):
            raise ValueError(f"{order} is not an order of {self.n} responses")
        label = self.label
        if label is not None and self.n > 1:
            label = order.index(label)
        scores = self.scores and tuple(self.scores[i] for i in order)
        responses = tuple(self.responses[i] for i in order)
        return replace(self, responses=responses, label=label, scores=scores)


def _check_prompt(prompt: Sequence[Message]) -> tuple[Message, ...]:
    turns = fold_system(prompt)
    if not turns:
        raise ValueError("the prompt has no turns: the last turn must be the user's")
    if turns[-1].role != "user":
        raise ValueError("the last turn of the prompt is the assistant's: it must be the user's")
    # Benchmarks hold conversations whose last turn is empty.
    if not any(turn.content.strip() for turn in turns):
        raise ValueError("the prompt is empty: a user turn must hold some text")
    return turns


def _check_responses(responses) -> tuple[str, ...]:
    if isinstance(responses, str) or not isinstance(responses, Sequence):
        raise ValueError(f"responses is {kind(responses)}: give a list of texts, one per response")
    if not responses:
        raise ValueError("responses is empty: at least one response is needed")
    for number, response in enumerate(responses, 1):
        if not isinstance(response, str):
            raise ValueError(
                f"response {number} is {kind(response)} ({shown(response)}): give text"
            )
    return tuple(repair_surrogates(response) for response in responses)


def _check_text(name: str, value: str | None) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} is {kind(value)}: give text, or leave it out")
    return repair_surrogates(value) if value else None


def _check_label(label, n: int) -> int | None:
    if label is None:
        return None
    if not isinstance(label, Integral) or (isinstance(label, bool) and n > 1):
        raise ValueError(f"the label {shown(label)} is {kind(label)}: give an integer")
    label = int(label)
    if n == 1 and label not in (0, 1):
        raise ValueError(
            f"the label {shown(label)} of a single response must be 1 (right) or 0 (wrong)"
        )
    if n > 1 and not 0 <= label < n:
        raise ValueError(
            f"the label {shown(label)} is out of range: with {n} responses it is the index of the "
            f"best one, 0 to {n - 1}"
        )
    return label


def _check_scores(scores, n: int) -> tuple[float, ...] | None:
    if scores is None:
        return None
    if isinstance(scores, str) or not isinstance(scores, Sequence) or len(scores) != n:
        what = f"{len(scores)}" if isinstance(scores, list | tuple) else kind(scores)
        raise ValueError(f"scores must be {n} numbers, one per response, but is {what}")
    for score in scores:
        # Any integer is finite, but not every one is a float.
        if not isinstance(score, int | float) or not abs(score) <= sys.float_info.max:
            raise ValueError(f"the score {shown(score)} is not a finite number")
    return tuple(float(score) for score in scores)


def _check_strength(strength) -> int | None:
    if strength is not None and (isinstance(strength, bool) or strength not in (0, 1, 2, 3)):
        raise ValueError(f"the strength {shown(strength)} is none of 0 (tie), 1, 2, 3 (strong)")
    return None if strength is None else int(strength)


def _content_id(values: Mapping[str, Any]) -> str:
    turns = [[turn.role, turn.content] for turn in values["prompt"]]
    content = [turns, values["responses"], values["reference"], values["principles"]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
