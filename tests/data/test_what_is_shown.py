"""What a row holds is shown to the judge, or kept and named as not shown; nothing goes unsaid."""

import datetime
import decimal
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from grm_jax.data.sources import BadRow, load_examples, to_example
from grm_jax.text.json_line import json_line
from grm_jax.text.messages import Message

Q, A, B = "What is 37+48?", "85", "84"
PAIR = {"prompt": Q, "chosen": A, "rejected": B}
VOTE = {"prompt": Q, "response_1": A, "response_2": B}


def read(row):
    return to_example(row, "rows.jsonl", 1)


def turns(row) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in read(row).prompt]


def mapping(tmp_path: Path, *rows) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return load_examples(path).mapping


COLUMNS = {
    "created": [datetime.datetime(2024, 1, 1)],
    "day": [datetime.date(2024, 1, 1)],
    "image": [{"bytes": b"\x89PNG", "path": None}],
    "price": [decimal.Decimal("1.50")],
    "odds": [float("nan")],
    "often": [[float("inf"), 1.0]],
    "exact": pyarrow.array([1], pyarrow.timestamp("ns")),
    "far": pyarrow.array([10**14], pyarrow.timestamp("s")),
    "place": pyarrow.array([0], pyarrow.timestamp("s", tz="Nowhere/Land")),
}


@pytest.mark.parametrize("column", COLUMNS)
def test_columns_that_nobody_asked_for_end_no_run(tmp_path, column):
    path = tmp_path / "rows.parquet"
    table = {name: [text] for name, text in PAIR.items()} | {column: COLUMNS[column]}
    pyarrow.parquet.write_table(pyarrow.table(table), path)
    (example,) = load_examples(path)
    assert example.responses == (A, B)
    assert json.loads(json_line(example.meta)) == example.meta
    assert json.dumps(example.meta, allow_nan=False)


def test_half_characters_are_replaced_in_columns_and_their_names(tmp_path):
    example = read(PAIR | {"source": "half \ud83d", "half \ud83d": ["\ud83d"]})
    assert example.meta["source"] == "half \ufffd"
    assert example.meta["half \ufffd"] == ["\ufffd"]
    with pytest.raises(ValueError, match="fits the columns \ufffd, prompt"):
        read({"\ud83d": 1, "prompt": "p"})
    mapping(tmp_path, PAIR | {"half \ud83d": 1}).encode()


def test_columns_of_our_own_names_are_kept():
    example = read(PAIR | {"path": "theirs", "line": 9, "uuid": "u", "prompt_id": 3, "id": 5})
    assert example.meta == {
        "path (column)": "theirs", "line (column)": 9, "uuid": "u", "prompt_id": 3,
        "path": "rows.jsonl", "line": 1,
    }  # fmt: skip


@pytest.mark.parametrize("column", ["system", "system_prompt"])
def test_a_system_column_is_a_system_turn(column):
    assert turns(PAIR | {column: "Be brief."}) == [("user", f"Be brief.\n\n{Q}")]
    own = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": Q}]
    assert turns(PAIR | {column: "Be brief.", "prompt": own}) == [
        ("user", f"Be brief.\n\nBe kind.\n\n{Q}")
    ]
    assert turns(PAIR | {column: "Be kind.", "prompt": own}) == [("user", f"Be kind.\n\n{Q}")]
    for nothing in ("", " ", None, {}):
        assert turns(PAIR | {column: nothing}) == [("user", Q)]


PAST = [("user", "Hi"), ("assistant", "Hello")]


@pytest.mark.parametrize("column", ["history", "context"])
@pytest.mark.parametrize(
    "past", [[["Hi", "Hello"]], [{"role": role, "content": text} for role, text in PAST]]
)
def test_earlier_turns_come_before_the_prompt(column, past):
    assert turns(PAIR | {column: past}) == [*PAST, ("user", Q)]
    system, question = {"role": "system", "content": "s"}, {"role": "user", "content": Q}
    assert turns(PAIR | {column: past, "prompt": [system, question]}) == [
        ("user", "s\n\nHi"), PAST[1], ("user", Q),
    ]  # fmt: skip
    whole = [{"role": role, "content": text} for role, text in PAST]
    assert turns(PAIR | {column: past, "prompt": [*whole, question]}) == [*PAST, ("user", Q)]


def test_context_stands_before_the_question_once():
    assert turns(PAIR | {"context": "A text."}) == [("user", f"A text.\n\n{Q}")]
    assert turns(PAIR | {"context": ["A", "B"]}) == [("user", f"A\n\nB\n\n{Q}")]
    assert turns(PAIR | {"context": "A", "history": [["Hi", "Hello"]]})[0] == ("user", "A\n\nHi")
    assert turns(PAIR | {"context": "A", "prompt": f"A\n{Q}"}) == [("user", f"A\n{Q}")]
    assert turns(PAIR | {"context": "37"}) == [("user", f"37\n\n{Q}")]


def test_what_has_no_known_form_is_kept_and_refuses_nothing():
    odd = {"system": {"x": 1}, "history": [["Hi", None]], "context": [1]}
    example = read(PAIR | odd)
    assert example.prompt == (Message("user", Q),)
    assert odd.items() <= example.meta.items()


def test_nothing_before_it_fills_an_empty_prompt():
    with pytest.raises(ValueError, match="the prompt is empty"):
        read(PAIR | {"prompt": "", "system": "s", "context": "c", "history": [["Hi", "Hello"]]})


def test_the_mapping_names_the_columns_that_are_not_shown(tmp_path):
    rows = [
        PAIR | {"id": "o1", "system": "French only.", "tools": []},
        PAIR | {"history": [["Hi", "Hello"]], "source": "web"},
        PAIR | {"images": ["a.png"], "context": [1], "prompt_id": 1},
        {**PAIR, "prompt": [{"role": "user", "content": Q, "tool_calls": [{"name": "add"}]}]},
    ]
    told = mapping(tmp_path, *rows)
    assert "system is shown as a system turn; history is shown as earlier turns" in told
    assert told.endswith("not shown to the judge: source, images, context, prompt[].tool_calls.")
    assert "not shown" not in mapping(tmp_path, PAIR)
    many = mapping(tmp_path, PAIR | {f"c{i}": i for i in range(1, 30)})
    assert many.endswith("c11, c12 and 17 more.")


@pytest.mark.parametrize(
    ("reference", "shown"),
    [
        (85, "85"), (85.0, "85"), (0.5, "0.5"), (0, "0"), (True, "true"), (["85"], "85"),
        (["85", 86], "85\n86"), ({"text": "é"}, '{"text": "é"}'), ("", None), ([], None),
        (float("nan"), None), (decimal.Decimal("1.5"), "1.5"), (10**20, str(10**20)),
    ],
)  # fmt: skip
def test_a_reference_of_any_kind_is_text(reference, shown):
    assert read(PAIR | {"reference": reference}).reference == shown
    assert read(PAIR | {"reference_answer": reference}).reference == shown
    assert read(PAIR | {"reference": None, "reference_answer": "x"}).reference == "x"


@pytest.mark.parametrize(
    ("vote", "label", "tie"),
    [
        ("model_a", 0, False), ("Model B", 1, False), ("A", 0, False), ("b", 1, False),
        ("response_2", 1, False), (1, 0, False), (2, 1, False), ("[[A]]", 0, False),
        ("tie", None, True), ("tie (bothbad)", None, True), ("model_a (tie)", None, True),
        ("both", None, True), ("both_bad", None, True), ("", None, False),
    ],
)  # fmt: skip
def test_votes_in_other_words(vote, label, tie):
    example = read(VOTE | {"winner": vote})
    assert (example.label, example.meta.get("tie", False)) == (label, tie)


@pytest.mark.parametrize("vote", ["model_c", "unclear", 0, 3, True, {"a": 1}, ["model_a"]])
def test_a_vote_that_says_nothing_known_is_no_tie(vote):
    with pytest.raises(ValueError, match=r"winner is .*: give model_a, model_b or tie"):
        read(VOTE | {"winner": vote})


@pytest.mark.parametrize(
    ("row", "label"),
    [
        ({"responses": [A, B], "label": "1"}, 1),
        ({"responses": [A, B], "label": "0.0"}, 0),
        ({"responses": [A, B], "label": ""}, None),
        ({"responses": [A], "label": True}, 1),
        ({"response": A, "label": "True"}, 1),
        ({"response": A, "label": "false"}, 0),
        ({"response": A, "label": "0"}, 0),
        ({"output_1": A, "output_2": B, "label": "2"}, 1),
        ({"response_1": A, "response_2": B, "preference_strength": "-2"}, 0),
    ],
)
def test_labels_are_converted_where_the_meaning_is_clear(row, label):
    assert read({"prompt": Q} | row).label == label


@pytest.mark.parametrize("labels", [[True, False], [1, 0]])
@pytest.mark.parametrize("row", [{"completions": ["a", "b"]}, {"completion": "a b"}])
def test_labels_of_steps_are_no_labels_of_responses(row, labels):
    with pytest.raises(ValueError, match="labels has a label for each step of one answer"):
        read({"prompt": Q, "labels": labels} | row)


PARTS = [{"type": "text", "text": "What is"}, {"type": "text", "text": "37+48?", "image": None}]


def test_text_in_parts_is_text():
    prompt = [{"role": "user", "content": PARTS}]
    assert turns(PAIR | {"prompt": prompt}) == [("user", "What is\n37+48?")]
    assert read({"prompt": Q, "responses": [PARTS, {"content": PARTS}]}).responses == (
        ("What is\n37+48?",) * 2
    )
    side = {"chosen": [{"role": "assistant", "content": PARTS[:1]}], "rejected": PARTS[1:]}
    assert read(PAIR | side).responses == ("What is", "37+48?")


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"type": "image_url", "image_url": {"url": "x"}}, "a part of type 'image_url'"),
        ({"type": "image", "text": None}, "a part of type 'image'"),
        (7, "a part that is a number"),
    ],
)
def test_parts_that_are_no_text_are_refused(part, words):
    with pytest.raises(ValueError, match=words):
        read(PAIR | {"prompt": [{"role": "user", "content": [*PARTS, part]}]})
    with pytest.raises(ValueError, match=words):
        read({"prompt": Q, "responses": [A, [*PARTS, part]]})


@pytest.mark.parametrize("column", ["responses", "completions", "response", "completion"])
def test_a_response_may_be_a_list_of_one_turn(column):
    lists = [[{"role": "assistant", "content": text}] for text in (A, B)]
    if column.endswith("s"):
        assert read({"prompt": Q, column: lists}).responses == (A, B)
        two = [[{"role": "assistant", "content": A}] * 2] * 2
        with pytest.raises(ValueError, match="holds 2 turns: give the last one"):
            read({"prompt": Q, column: two})
        with pytest.raises(ValueError, match="is a turn of 'user'"):
            read({"prompt": Q, column: [[{"role": "user", "content": A}], lists[1]]})
    else:
        assert read({"prompt": Q, column: lists[0]}).responses == (A,)


def said(*texts: str) -> str:
    speakers = ("Human", "Assistant")
    return "".join(f"\n\n{speakers[i % 2]}: {text}" for i, text in enumerate(texts))


def test_a_dialogue_in_one_string_is_read_as_turns():
    row = {"chosen": said("Hi", "Hello", Q, A), "rejected": said("Hi", "Hello", Q, B)}
    assert turns(row) == [*PAST, ("user", Q)]
    assert read(row).responses == (A, B)
    assert read(row | {"prompt": Q}).responses == (A, B)
    asked = {"prompt": said("Hi", "Hello", Q, "").rstrip(" "), "chosen": A, "rejected": B}
    assert turns(asked) == [*PAST, ("user", Q)]


def test_what_only_looks_like_a_dialogue_stays_text():
    for text in (f"Human: {Q}", said(Q), f"{Q}\n\nHuman: hm"):
        assert turns(PAIR | {"prompt": text}) == [("user", text)]
    row = PAIR | {"prompt": "Write a dialogue.", "chosen": said("a", "b")}
    assert read(row).responses == (said("a", "b"), B)
    with pytest.raises(ValueError, match="begin with different conversations"):
        read({"chosen": said("a", "b"), "rejected": said("c", "d")})


def test_the_mapping_and_the_errors_agree(tmp_path):
    good = {"chosen": said(Q, A), "rejected": said(Q, B)}
    assert "the turns that chosen and rejected share" in mapping(tmp_path, good)
    told = mapping(tmp_path, {"chosen": A, "rejected": B})
    assert "no row can be read; the first one: the row has no prompt" in told


def test_what_a_benchmark_holds_is_judged():
    past = [{"role": role, "content": text} for role, text in (*PAST, ("user", ""))]
    pair = {"conversation_input": past, "chosen": {"answer": ""}, "reject": {"answer": B}}
    example = read(pair)
    assert (example.responses, example.label) == (("", B), 0)
    assert example.prompt[-1] == Message("user", "")


def test_a_line_number_follows_the_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(f"\n{json.dumps(PAIR)}\n\n{{}}\n")
    good, bad = load_examples(path)
    assert isinstance(bad, BadRow)
    assert (good.line, bad.line) == (2, 4)
