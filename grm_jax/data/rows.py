"""The shapes that rows of public data sets have, and how each is read.

`SHAPES` is a complete list: a row is read by the first shape all of whose columns it has (null
counts as absent). A row that cannot be used raises a ValueError that says why.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grm_jax.data.columns import Row, answer, empty, integer, numbers, take_label, take_text
from grm_jax.data.conversation import dialogue, prompt_column, take_prompt
from grm_jax.text.messages import as_messages, kind, shown, turn_role


@dataclass(frozen=True)
class Shape:
    """How one kind of row is read: its columns, its reader, and a sentence for the user.

    The reader removes the columns that it uses from the row (the others become meta), and returns
    the arguments of Example.
    """

    columns: tuple[str, ...]
    read: Callable[[Row], dict[str, Any]]
    says: str


def shape_of(row: Mapping[str, Any]) -> Shape:
    """The first shape that fits the columns of the row."""
    for shape in SHAPES:
        if all(row.get(column) is not None for column in shape.columns):
            return shape
    columns = ", ".join(name[:40] for name in list(row)[:12]) or "none"
    raise ValueError(
        f"no known shape of row fits the columns {columns}: give prompt with chosen and rejected, "
        "with responses (a list), or with response"
    )


def _best(scores: Sequence[float]) -> int | None:
    """The index of the highest score; None if several share it, or there is only one score."""
    top = max(scores, default=0.0)
    return list(scores).index(top) if len(scores) > 1 and list(scores).count(top) == 1 else None


def _scored(prompt: Any, responses: list[str], scores: list[float], **more: Any) -> dict[str, Any]:
    label = _best(scores) if len(scores) == len(responses) else None
    return {"prompt": prompt, "responses": responses, "scores": scores, "label": label} | more


def _side(value: Any, name: str) -> tuple[list[Any], list[str]]:
    """The content of a chosen or rejected column: the turns before the answer, and the answers."""
    if not isinstance(value, list):
        return [], [answer(value, name)]
    if not value:
        raise ValueError(f"{name} is an empty list: give at least one response")
    if not isinstance(value[-1], Mapping):
        return [], [answer(item, f"{name}[{i}]") for i, item in enumerate(value)]
    role = turn_role(value[-1])
    if role is None and "text" in value[-1]:  # one response in parts
        return [], [answer(value, name)]
    if role != "assistant":
        raise ValueError(f"{name} ends with a turn of {shown(role)}: its last turn is the response")
    return value[:-1], [answer(value[-1], f"the last turn of {name}")]


def _dialogues(row: Row, *names: str) -> None:
    """Splits dialogues in one string into turns, if both columns hold one and share the prompt."""
    turns = [dialogue(row[name]) for name in names]
    if not all(turns):
        return
    prompt = row.get(prompt_column(row))
    known = [turn["content"].strip() for turn in turns[0][:-1] if turn["role"] == "user"]
    if prompt is None or (isinstance(prompt, str) and prompt.strip() in known):
        row.update(zip(names, turns, strict=True))


def _pair(row: Row, rejected: str = "rejected") -> dict[str, Any]:
    _dialogues(row, "chosen", rejected)
    shared, good = _side(row.pop("chosen"), "chosen")
    other, bad = _side(row.pop(rejected), rejected)
    if shared != other and as_messages(shared) != as_messages(other):
        raise ValueError(f"chosen and {rejected} begin with different conversations")
    prompt = take_prompt(row) if prompt_column(row) or not shared else shared
    # Some data sets repeat the first query in a column beside the whole conversations.
    if shared and prompt != shared:
        turns = as_messages(shared)
        texts = {turn.content.strip() for turn in turns}
        if as_messages(prompt) != turns and not (
            isinstance(prompt, str) and prompt.strip() in texts
        ):
            raise ValueError(
                f"the prompt is not in the conversation that chosen and {rejected} share"
            )
        prompt = shared
    values = {"prompt": prompt, "responses": good + bad, "label": 0 if len(good) == 1 else None}
    metadata = row.get("metadata")
    details = metadata if isinstance(metadata, Mapping) else row
    gold = [details.get("score_chosen"), details.get("score_rejected")]
    if len(good) > 1:
        values["scores"] = [1.0] * len(good) + [0.0] * len(bad)
    elif len(bad) == 1 and not any(empty(score) for score in gold):
        values["scores"] = numbers(gold, "score_chosen, score_rejected")
        if details is row:
            del row["score_chosen"], row["score_rejected"]
    return values


def _rmb_best(row: Row) -> dict[str, Any]:
    answers = [row.pop("bon_best"), *_list(row, "loser_list")]
    responses = [answer(item, f"answer {i}") for i, item in enumerate(answers, 1)]
    return {"prompt": take_prompt(row), "responses": responses, "label": 0}


def _two(row: Row) -> dict[str, Any]:
    responses = [answer(row.pop(name), name) for name in ("output_1", "output_2")]
    label = take_label(row, 2)
    if label not in (None, 1, 2):
        raise ValueError(
            f"the label {shown(label)} is neither 1 nor 2, the number of the better output"
        )
    values = {"prompt": take_prompt(row), "responses": responses}
    return values | {"label": None if label is None else label - 1}


def _two_letters(row: Row) -> dict[str, Any]:
    responses = [answer(row.pop(name), name) for name in ("response_A", "response_B")]
    best = row.pop("label")
    if best not in ("A>B", "B>A"):
        raise ValueError(f"the label is {shown(best)}: it must be A>B or B>A")
    return {"prompt": take_prompt(row), "responses": responses, "label": int(best == "B>A")}


def _helpsteer(row: Row) -> dict[str, Any]:
    strength = integer(row.pop("preference_strength"), "preference_strength")
    if abs(strength) > 3:
        raise ValueError(f"preference_strength is {shown(strength)}: it must be -3 to 3")
    # <extra_id_1> opens every turn but the first, followed by who speaks.
    prompt = answer(take_prompt(row), "prompt")
    first, *rest = re.split(r"\n?<extra_id_1>(User|Assistant)\n", prompt)
    turns = [{"role": "user", "content": first}] + [
        {"role": role.lower(), "content": content}
        for role, content in zip(rest[::2], rest[1::2], strict=True)
    ]
    return {
        "prompt": turns,
        "responses": [answer(row.pop(name), name) for name in ("response_1", "response_2")],
        "label": None if strength == 0 else int(strength > 0),
        "strength": abs(strength),
        "meta": {"tie": True} if strength == 0 else {},
    }


def _vote(row: Row) -> dict[str, Any]:
    label = _winner(row.pop("winner"))
    responses = [answer(row.pop(name), name) for name in ("response_1", "response_2")]
    meta = {"tie": True} if label == "tie" else {}
    label = label if isinstance(label, int) else None
    return {"prompt": take_prompt(row), "responses": responses, "label": label, "meta": meta}


def _winner(vote: Any) -> int | str | None:
    """0 or 1, the index of the winner; "tie"; or None if nobody voted."""
    if isinstance(vote, str) and not vote.strip():
        return None
    words = re.findall(r"[a-z0-9]+", vote.lower()) if isinstance(vote, str) else [str(vote)]
    if "tie" in words or " ".join(words) in TIES:
        return "tie"
    if words and {*words[:-1]} <= {"model", "response", "assistant"} and words[-1] in WINNERS:
        return WINNERS[words[-1]]
    raise ValueError(f"winner is {shown(vote)}: give model_a, model_b or tie")


def _best_of_k(row: Row) -> dict[str, Any]:
    names = sorted(
        (name for name in row if re.fullmatch(r"response_\d+", name)),
        key=lambda name: int(name.removeprefix("response_")),
    )
    responses = [answer(row.pop(name), name) for name in names]
    return _scored(take_prompt(row), responses, numbers(row.pop("scores"), "scores"))


def _completions(row: Row) -> dict[str, Any]:
    completions = _list(row, "completions")
    if isinstance(row.get("labels"), list):
        raise ValueError(STEPWISE)
    responses = [answer(item, f"completion {i}") for i, item in enumerate(completions, 1)]
    scores = [item.get("overall_score") for item in completions if isinstance(item, Mapping)]
    if not scores or None in scores:
        return {"prompt": take_prompt(row), "responses": responses}
    return _scored(take_prompt(row), responses, numbers(scores, "overall_score"))


def _armorm(row: Row) -> dict[str, Any]:
    scores = [item["score"] for item in row.pop("rewards_armorm")]
    return _scored(take_prompt(row), _responses(row), numbers(scores, "rewards_armorm"))


def _solutions(row: Row) -> dict[str, Any]:
    reference = take_text(row, "ground_truth")
    names = [name for name, value in row.items() if isinstance(value, Mapping)]
    answers = [row.pop(name) for name in names]
    responses = [answer(item, name) for item, name in zip(answers, names, strict=True)]
    scores = [float(bool(item["is_correct"])) for item in answers]
    return _scored(take_prompt(row), responses, scores, reference=reference, meta={"models": names})


def _responses(row: Row) -> list[str]:
    return [answer(item, f"responses[{i}]") for i, item in enumerate(_list(row, "responses"))]


def _list(row: Row, name: str) -> list[Any]:
    value = row.pop(name)
    if not isinstance(value, list):
        raise ValueError(f"{name} is {kind(value)}: give a list of texts")
    return value


def _several(row: Row) -> dict[str, Any]:
    prompt, responses = take_prompt(row), _responses(row)
    label = take_label(row, len(responses))
    scores = row.pop("scores" if not empty(row.get("scores")) else "score", None)
    if empty(scores):
        return {"prompt": prompt, "responses": responses, "label": label}
    values = _scored(prompt, responses, numbers(scores, "scores"))
    return values if label is None else values | {"label": label}


def _single(row: Row, column: str) -> dict[str, Any]:
    if isinstance(row[column], list) and not all(isinstance(x, Mapping) for x in row[column]):
        row["responses"] = row.pop(column)
        return _several(row)
    if isinstance(row.get("labels"), list):
        raise ValueError(STEPWISE)
    turns, responses = _side(row.pop(column), column)
    if turns:
        raise ValueError(f"{column} holds {len(turns) + 1} turns: give the last one, the response")
    return {"prompt": take_prompt(row), "responses": responses, "label": take_label(row, 1)}


def _error_label(row: Row) -> dict[str, Any]:
    label = row.pop("error_label")
    if label not in ("error", "no_error"):
        raise ValueError(f"error_label is {shown(label)}: it must be error or no_error")
    row["label"] = int(label == "no_error")
    return _single(row, "llm_response")


STEPWISE = (
    "labels has a label for each step of one answer, and steps are not judged apart: give the "
    "whole answer as response, with label 1 if it is right and 0 if it is wrong"
)
# Names of a vote for neither.
TIES = {"tied", "draw", "both", "bothbad", "both bad", "both good", "neither", "equal", "same"}
WINNERS = {"a": 0, "1": 0, "b": 1, "2": 1}

SHAPES = (
    Shape(("bon_best", "loser_list"), _rmb_best, "bon_best is the best of bon_best, loser_list"),
    Shape(("chosen", "reject"), lambda row: _pair(row, "reject"), "chosen is better than reject"),
    Shape(
        ("chosen", "rejected"),
        _pair,
        "chosen is better than rejected; chosen comes first, with label 0, until a judge shuffles",
    ),
    Shape(
        ("response_1", "response_2", "preference_strength"),
        _helpsteer,
        "response_1 is better where preference_strength is negative; 0 is a tie, without a label",
    ),
    Shape(
        ("response_1", "response_2", "scores"),
        _best_of_k,
        "response_1.. have a score each in scores",
    ),
    Shape(
        ("response_1", "response_2", "winner"),
        _vote,
        "winner model_a is response_1, model_b is response_2; a tie has no label",
    ),
    Shape(
        ("response_A", "response_B", "label"), _two_letters, "label A>B or B>A is the better one"
    ),
    Shape(("output_1", "output_2"), _two, "label 1 or 2 is the better of output_1, output_2"),
    Shape(("completions",), _completions, "overall_score, where there is one, orders completions"),
    Shape(("responses", "rewards_armorm"), _armorm, "rewards_armorm has the scores of responses"),
    Shape(
        ("ground_truth", "175b_verification"),
        _solutions,
        "each model's solution is a response, scored 1 where it is_correct; ground_truth is the "
        "reference",
    ),
    Shape(("responses",), _several, "label is the best of responses from 0, or scores order them"),
    Shape(("llm_response", "error_label"), _error_label, "one llm_response; no_error is right"),
    Shape(
        ("response",),
        lambda row: _single(row, "response"),
        "response is one text (label 1: right) or a list",
    ),
    Shape(
        ("completion",),
        lambda row: _single(row, "completion"),
        "completion is one text; label 1 or true is right",
    ),
)
