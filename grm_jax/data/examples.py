"""One row as an Example: its id, what a judge is shown of it, and what is not shown."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from grm_jax.data.columns import DEEPEST, Row, empty, take_text, too_deep
from grm_jax.data.conversation import PLACES, with_what_comes_before
from grm_jax.data.rows import shape_of
from grm_jax.text.json_line import plain
from grm_jax.text.messages import Example, kind, repair_surrogates, turn_role

IDS = ("id", "uid", "uuid", "bon_uid", "pair_uid", "question_id", "prompt_id", "unique_id",
       "pair_id")  # fmt: skip
OWN = ("path", "line")  # what a row's meta says of where it is
TURN = {"role", "from", "content", "value"}


@dataclass(frozen=True)
class Reading:
    """A row that was read.

    row: its columns. says: how its shape is read. before: the columns that are shown before the
    prompt. unshown: columns with content that no judge is shown. values: the arguments of
    Example.
    """

    row: Row
    says: str
    before: tuple[str, ...]
    unshown: tuple[str, ...]
    values: dict[str, Any]

    def example(self, path: str, line: int) -> Example:
        """The Example; raises ValueError with a sentence if it cannot be judged."""
        meta = self.values["meta"] | {"path": path, "line": line}
        return Example(**self.values | {"meta": meta, "line": line})


def read_row(row: Any) -> Reading:
    """The row by the first shape that fits it. Raises ValueError with a sentence.

    row: a ValueError stands for one that could not be decoded.
    """
    if isinstance(row, ValueError):
        raise row
    if not isinstance(row, Mapping):
        raise ValueError(
            f"the row is {kind(row)}, not an object with named columns (a file that is one JSON "
            "array must be called .json)"
        )
    if too_deep(row):
        raise ValueError(f"lists and objects in the row are nested more than {DEEPEST} deep")
    whole = {repair_surrogates(str(name)): value for name, value in row.items()}
    whole = {name: value for name, value in whole.items() if value is not None}
    shape, left = shape_of(whole), dict(whole)
    own = own_id(left)
    left.pop(_id_column(left), None)
    try:
        values = shape.read(left)
    except (TypeError, LookupError, AttributeError, ArithmeticError):
        raise ValueError(
            f"the columns {', '.join(shape.columns)} do not hold what they should: {shape.says}"
        ) from None
    values["prompt"] = with_what_comes_before(values["prompt"], left)
    values.setdefault("reference", take_text(left, "reference", "reference_answer"))
    values.setdefault("principles", take_text(left, "principles"))
    _refuse_empty(values["responses"])
    unshown = [name for name, value in left.items() if not empty(value) and name not in IDS]
    meta = values.get("meta", {}) | plain({_renamed(name): left[name] for name in left})
    return Reading(
        row=whole,
        says=shape.says,
        before=tuple(name for name in PLACES if name in whole and name not in left),
        unshown=(*unshown, *_in_turns({name: whole[name] for name in whole if name not in left})),
        values=values | {"id": id_text(own), "own_id": own, "meta": meta},
    )


def own_id(row: Mapping[Any, Any]) -> int | float | str | None:
    """The row's own id, a number or text; None if it has none."""
    own = plain(row.get(_id_column(row)))
    return own if own is None or isinstance(own, int | float | str) else json.dumps(own)


def _id_column(row: Mapping[Any, Any]) -> str:
    def says(value: Any) -> bool:
        return not too_deep(value) and not empty(plain(value))

    return next((name for name in IDS if says(row.get(name))), "")


def id_text(own: int | float | str | None) -> str:
    """The id as a name; "" if there is none."""
    return "" if own is None else repair_surrogates(str(own))


def _renamed(name: str) -> str:
    return f"{name} (column)" if name in OWN else name


def _refuse_empty(responses: list[str]) -> None:
    """Raises ValueError if all responses are empty; one among others is judged like any other."""
    if not responses:
        raise ValueError("the row has no responses: at least one is needed")
    if not any(response.strip() for response in responses):
        what = "the response is" if len(responses) == 1 else f"all {len(responses)} responses are"
        raise ValueError(f"{what} empty: there is nothing to judge")


def _in_turns(columns: Row) -> Iterator[str]:
    """What turns hold besides text, such as calls of tools."""
    for name, value in columns.items():
        turns = value if isinstance(value, list) else [value]
        turns = [turn for turn in turns if isinstance(turn, Mapping) and turn_role(turn)]
        keys = {key: None for turn in turns for key in turn if not empty(turn[key])}
        yield from (f"{name}[].{repair_surrogates(str(key))}" for key in keys if key not in TURN)
