"""Rows as anyone might write them, and what must hold for each: for tests, and for long fuzzing.

`check_row` and `check_file` raise AssertionError, or whatever the reader should not have raised.
"""

import json
import math
import re
from pathlib import Path

from hypothesis import strategies as st

from grm_jax.data.conversation import PLACES, PROMPTS
from grm_jax.data.examples import IDS
from grm_jax.data.rows import SHAPES
from grm_jax.data.sources import BadRow, load_examples, to_example
from grm_jax.text.json_line import json_line
from grm_jax.text.messages import Example

COLUMNS = sorted(
    {*PROMPTS, *IDS, *PLACES, *(name for shape in SHAPES for name in shape.columns)}
    | {"label", "labels", "score", "scores", "reference", "reference_answer", "principles"}
    | {
        "metadata",
        "score_chosen",
        "score_rejected",
        "response_3",
        "tools",
        "path",
        "line",
        "\ud83d",
    }
)
KEYS = ["role", "content", "from", "value", "type", "text", "answer", "score", "overall_score",
        "is_correct", "score_chosen", "a\udfff"]  # fmt: skip
WORDS = ["What is 37+48?", "85", "", " ", "tie", "A>B", "model_a", "user", "assistant", "system",
         "text", "image", "\n\nHuman: a\n\nAssistant: b", "\n\nHuman: a\n\nAssistant:", "1", "\x00",
         "half \ud83d", "\ufeff", "true", "no_error", "\n<extra_id_1>Assistant\n"]  # fmt: skip

texts = st.sampled_from(WORDS) | st.text(max_size=6)
numbers = (
    st.integers(-3, 3)
    | st.integers()
    | st.floats()
    | st.sampled_from([10**400, -(10**400), 1e308, 10**18, 2**63])
)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)
    ),
    max_leaves=6,
)
turns = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool", "Human"]), "content": texts}
)
prompts = texts | st.lists(turns, min_size=1, max_size=3)
answers = texts | turns | st.lists(turns, min_size=1, max_size=2)


# What the columns hold where they are as they should be.
GOOD = {
    **dict.fromkeys(PROMPTS, prompts),
    **dict.fromkeys(("chosen", "rejected", "reject", "response", "completion"), answers),
    **dict.fromkeys(("responses", "completions", "loser_list"), st.lists(answers, min_size=2)),
    "scores": st.lists(numbers, min_size=2, max_size=2),
    "label": st.sampled_from([0, 1, "1", 1.0, True, "A>B", 10**30]),
    "winner": st.sampled_from(["model_a", "B", "tie (bothbad)", "", 2]),
    "preference_strength": st.integers(-4, 4),
    "history": st.lists(st.tuples(texts, texts).map(list), max_size=2) | st.lists(turns),
    "error_label": st.sampled_from(["error", "no_error"]),
}


@st.composite
def shaped_rows(draw):
    """Rows with the columns of a shape and a prompt; most hold what they should, some anything."""
    names = [*draw(st.sampled_from(SHAPES)).columns, draw(st.sampled_from(PROMPTS))]
    names += draw(st.lists(st.sampled_from(COLUMNS), max_size=3))
    odd = draw(st.sampled_from([None, None, *names]))
    return {name: draw(values if name == odd else GOOD.get(name, answers)) for name in names}


rows = shaped_rows() | st.dictionaries(st.sampled_from(COLUMNS), values, max_size=6) | values


def check_row(row) -> None:
    """A row becomes an Example whose every part is valid JSON, or is refused in a sentence."""
    try:
        example = to_example(row, "rows.jsonl", 1)
    except ValueError as error:
        assert_sentence(error)
    else:
        assert_example(example)


def check_file(content: bytes, path: Path) -> None:
    """A file of any bytes, under a name that says its kind, is read to its end, twice alike."""
    path.write_bytes(content)
    source = load_examples(path)
    items = list(source)
    assert str(path) in source.mapping
    source.mapping.encode()
    for item in items:
        if isinstance(item, BadRow):
            assert_sentence(ValueError(item.reason))
            json_line({"id": item.id, "own": item.own_id}).encode()
        else:
            assert_example(item)
    assert len({item.id for item in items}) == len(items)
    assert [item.id for item in source] == [item.id for item in items]


def assert_example(example: Example) -> None:
    assert example.responses
    line = json_line({"meta": example.meta, "own": example.own_id, "id": example.id})
    line.encode()
    assert json.loads(line)["meta"] == example.meta
    assert not any(math.isnan(score) for score in example.scores or ())
    for text in (*example.responses, *(turn.content for turn in example.prompt)):
        text.encode()


def assert_sentence(error: ValueError) -> None:
    """The error is ours, not Python's own: no codec, no traceback, printable and not endless."""
    assert type(error) is ValueError, repr(error)
    said = str(error)
    said.encode()
    assert said.strip()
    assert len(said) < 1000, said
    assert not re.search(r"codec|surrogate|Exceeds the limit|unhashable|object is not", said), said
