"""Rows of every public shape become Examples; bad ones are told apart; nothing raises midway."""

import json
import re
import subprocess
import sys
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from grm_jax.data.examples import IDS
from grm_jax.data.sources import BadRow, load_examples, to_example
from grm_jax.text.messages import Example, Message

Q, A, B = "What is 37+48?", "85", "84"


def user(text):
    return {"role": "user", "content": text}


def model(text):
    return {"role": "assistant", "content": text}


def read(row) -> Example:
    return to_example(row, "rows.jsonl", 1)


def write(path: Path, *rows) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


PAIRS = {
    "text": {"prompt": Q, "chosen": A, "rejected": B},
    "explicit prompt, turns": {"prompt": [user(Q)], "chosen": [model(A)], "rejected": [model(B)]},
    "implicit prompt": {"chosen": [user(Q), model(A)], "rejected": [user(Q), model(B)]},
    "both": {"prompt": Q, "chosen": [user(Q), model(A)], "rejected": [user(Q), model(B)]},
    "ShareGPT": {
        "conversations": [{"from": "human", "value": Q}],
        "chosen": {"from": "gpt", "value": A},
        "rejected": {"from": "gpt", "value": B},
    },
    "RewardBench 2": {"prompt": Q, "chosen": [A], "rejected": [B], "num_correct": 1},
    "RMB pair": {
        "pair_uid": "7",
        "conversation_input": [user(Q)],
        "chosen": {"llm_name": "x", "answer": A},
        "reject": {"llm_name": "y", "answer": B},
    },
    "RMB best of n": {
        "conversation_input": [user(Q)],
        "bon_best": {"llm_name": "x", "answer": A},
        "loser_list": [{"llm_name": "y", "answer": B}],
    },
    "LLMBar": {"input": Q, "output_1": A, "output_2": B, "label": 1},
    "OffsetBias": {"instruction": Q, "output_1": A, "output_2": B, "label": 1.0},
    "JudgeBench": {"question": Q, "response_A": A, "response_B": B, "label": "A>B"},
    "PPE preference": {"prompt": Q, "response_1": A, "response_2": B, "winner": "model_a"},
    "HelpSteer2": {"prompt": Q, "response_1": A, "response_2": B, "preference_strength": -2},
    "ours, label": {"prompt": Q, "responses": [A, B], "label": 0},
    "ours, scores": {"query": Q, "responses": [A, B], "scores": [2, 1.5]},
    "UltraFeedback": {
        "instruction": Q,
        "completions": [
            {"response": A, "overall_score": 8.5},
            {"response": B, "overall_score": "7"},
        ],
    },
    "magpie": {
        "instruction": Q,
        "responses": [A, B],
        "rewards_armorm": [{"score": 0.2}, {"score": 0.1}],
    },
    "PPE best of k": {"prompt": Q, "response_1": A, "response_2": B, "scores": [True, False]},
    "gsm8k solutions": {
        "question": Q,
        "ground_truth": "#### 85",
        "6b_verification": {"is_correct": True, "solution": A},
        "175b_verification": {"is_correct": False, "solution": B},
    },
    "sampled answers": {"question": Q, "response": [A, B], "score": [True, False]},
}


@pytest.mark.parametrize("shape", PAIRS)
def test_every_shape_of_two_responses_reads_the_same(shape):
    example = read(PAIRS[shape])
    assert example.prompt == (Message("user", Q),)
    assert example.responses == (A, B)
    assert example.label == 0


@pytest.mark.parametrize(
    ("row", "label"),
    [
        ({"prompt": Q, "response": A}, None),
        ({"prompt": Q, "response": A, "label": 1}, 1),
        ({"input": Q, "response": A, "label": 0.0}, 0),
        ({"prompt": [user(Q)], "completion": [model(A)], "label": False}, 0),
        ({"input": Q, "llm_response": A, "error_label": "no_error"}, 1),
        ({"input": Q, "llm_response": A, "error_label": "error"}, 0),
    ],
)
def test_every_shape_of_one_response_reads_the_same(row, label):
    example = read(row)
    assert (example.prompt[0].content, example.responses, example.label) == (Q, (A,), label)


def test_the_second_best_of_each_numbering():
    assert read({"input": Q, "output_1": B, "output_2": A, "label": 2}).label == 1
    row = {"prompt": Q, "response_1": B, "response_2": A}
    assert read(row | {"winner": "model_b"}).label == 1
    assert read(row | {"preference_strength": 3}).label == 1
    assert read(row | {"preference_strength": 3}).strength == 3
    assert read({"prompt": Q, "responses": [B, A], "label": 1}).label == 1


def test_ties_have_no_label():
    row = {"prompt": Q, "response_1": A, "response_2": B}
    for tie in ({"preference_strength": 0}, {"winner": "tie"}, {"winner": "tie (bothbad)"}):
        example = read(row | tie)
        assert (example.label, example.meta["tie"]) == (None, True)
    assert read(row | {"preference_strength": 0}).strength == 0
    assert read({"prompt": Q, "responses": [A, B, "x"], "scores": [1, 1, 0]}).label is None


def test_several_chosen_are_scored_and_have_no_single_best():
    example = read({"prompt": Q, "chosen": [A, "85."], "rejected": [B], "subset": "Ties"})
    assert (example.responses, example.label) == ((A, "85.", B), None)
    assert example.scores == (1.0, 1.0, 0.0)
    assert example.meta["subset"] == "Ties"


def test_helpsteer_prompts_are_split_into_turns():
    prompt = "c#\n<extra_id_1>Assistant\nA language.\n<extra_id_1>User\nTell\nmore"
    row = {"prompt": prompt, "response_1": A, "response_2": B, "preference_strength": 1}
    turns = [("user", "c#"), ("assistant", "A language."), ("user", "Tell\nmore")]
    assert [(turn.role, turn.content) for turn in read(row).prompt] == turns


def test_multi_turn_pairs_keep_their_conversation():
    shared = [{"role": "system", "content": "s"}, user("q1"), model("a1"), user("q2")]
    row = {"chosen": [*shared, model(A)], "rejected": [*shared, model(B)]}
    assert [turn.content for turn in read(row).prompt] == ["s\n\nq1", "a1", "q2"]


def test_scores_beside_a_pair_are_kept():
    pair = {"prompt": Q, "chosen": A, "rejected": B}
    for row in (
        pair | {"score_chosen": 9.0, "score_rejected": 7.0},
        pair | {"metadata": {"score_chosen": 9, "score_rejected": 7}},
    ):
        assert read(row).scores == (9.0, 7.0)


def test_alpaca_rows_keep_instruction_and_input():
    row = {"instruction": "Translate.", "input": "chat", "output_1": "cat", "output_2": "dog"}
    assert read(row | {"label": 1}).prompt[0].content == "Translate.\n\nchat"
    assert read(row | {"label": 1, "input": ""}).prompt[0].content == "Translate."


def test_reference_principles_and_the_rest_are_kept():
    row = {"prompt": Q, "response": A, "reference": "85", "principles": ["p", "q"], "subset": "s"}
    example = read(row | {"id": 0})
    assert (example.id, example.reference, example.principles) == ("0", "85", "p\nq")
    assert example.meta == {"subset": "s", "path": "rows.jsonl", "line": 1}


@pytest.mark.parametrize("name", IDS)
def test_a_rows_own_id_is_used_under_any_of_its_names(name):
    assert read({"prompt": Q, "response": A, name: 12}).id == "12"
    assert (
        read({"prompt": Q, "response": A, name: None}).id == read({"prompt": Q, "response": A}).id
    )


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([1], "the row is a list, not an object"),
        ({}, "fits the columns none"),
        ({"question": Q, "answer": A}, "no known shape of row fits the columns question, answer"),
        ({"chosen": A, "rejected": B}, "the row has no prompt: one of the columns prompt, query"),
        ({"prompt": None, "response": A}, "the row has no prompt"),
        ({"prompt": " ", "response": A}, "the prompt is empty"),
        ({"prompt": Q, "response": ""}, "the response is empty"),
        ({"prompt": Q, "responses": ["", " "]}, "all 2 responses are empty"),
        ({"prompt": Q, "chosen": "", "rejected": " "}, "all 2 responses are empty"),
        ({"prompt": Q, "responses": []}, "the row has no responses"),
        ({"prompt": Q, "responses": A}, "responses is text: give a list"),
        ({"prompt": Q, "responses": [A, 84]}, r"responses\[1\] is a number"),
        ({"prompt": Q, "responses": [A, None]}, r"responses\[1\] is null"),
        ({"prompt": Q, "responses": [A, B], "label": 2}, "label 2 is out of range.*0 to 1"),
        ({"prompt": Q, "responses": [A, B], "label": "x"}, "label is 'x': give an integer"),
        ({"prompt": Q, "responses": [A, B], "label": True}, "label is True: give an integer"),
        ({"prompt": Q, "responses": [A, B], "label": 0.5}, "label is 0.5: give an integer"),
        ({"prompt": Q, "responses": [A, B], "scores": [1]}, "must be 2 numbers.*but is 1"),
        ({"prompt": Q, "responses": [A, B], "scores": ["x", 1]}, "give numbers, one per response"),
        ({"prompt": Q, "responses": [A, B], "scores": [float("nan"), 1]}, "not a finite number"),
        ({"prompt": Q, "response": A, "label": 3}, "label 3 of a single response must be"),
        ({"prompt": Q, "response": [user(Q), model(A)]}, "response holds 2 turns"),
        ({"prompt": Q, "chosen": [], "rejected": B}, "chosen is an empty list"),
        ({"prompt": Q, "chosen": [user(A)], "rejected": B}, "chosen ends with a turn of 'user'"),
        ({"prompt": "other", "chosen": [user(Q), model(A)], "rejected": [user(Q), model(B)]},
         "the prompt is not in the conversation"),
        ({"chosen": [user(Q), model(A)], "rejected": [user("other"), model(B)]},
         "begin with different conversations"),
        ({"input": Q, "output_1": A, "output_2": B, "label": 0}, "label 0 is neither 1 nor 2"),
        ({"prompt": Q, "response_1": A, "response_2": B, "preference_strength": 4},
         "preference_strength is 4: it must be -3 to 3"),
        ({"input": Q, "llm_response": A, "error_label": "wrong"}, "must be error or no_error"),
        ({"instruction": Q, "responses": [A], "rewards_armorm": [0.1]}, "do not hold what they"),
        ({"prompt": [model(A)], "response": A}, "must be the user's"),
    ],
)  # fmt: skip
def test_a_bad_row_is_refused_in_a_sentence(row, words):
    with pytest.raises(ValueError, match=words):
        read(row)


def test_bad_rows_stand_beside_the_good_ones(tmp_path):
    path = tmp_path / "rows.jsonl"
    good = json.dumps({"prompt": Q, "responses": [A, B], "label": 0, "id": "g"}).encode()
    lines = [good, b"{", b"", b"\xff", b'"text"', b'{"id": "b", "prompt": 1}', b"[" * 10**5, good]
    path.write_bytes(b"\n".join(lines))
    items = list(load_examples(path))
    assert [type(item) for item in items] == [Example, *[BadRow] * 5, Example]
    assert [item.id for item in items] == [
        "g", "rows.jsonl:2", "rows.jsonl:4", "rows.jsonl:5", "b", "rows.jsonl:7", "g#2",
    ]  # fmt: skip
    broken = items[1]
    assert (broken.path, broken.line) == (str(path), 2)
    assert str(broken).startswith(f"{path}:2: this is not JSON (Expecting property name")
    assert "is not UTF-8" in items[2].reason
    assert items[-1].meta["line"] == 8


def test_ids_are_told_apart_and_do_not_depend_on_the_order(tmp_path):
    rows = [{"prompt": Q, "response": str(i)} for i in (1, 2, 3)]
    forward = [item.id for item in load_examples(write(tmp_path / "a.jsonl", *rows))]
    backward = [item.id for item in load_examples(write(tmp_path / "b.jsonl", *rows[::-1]))]
    assert forward == backward[::-1]
    same = [{"id": i, "prompt": Q, "response": A} for i in ("x", "x", "x#2", "x", "y")]
    source = load_examples(write(tmp_path / "c.jsonl", *same))
    assert [item.id for item in source] == ["x", "x#2", "x#2#2", "x#3", "y"]
    assert [item.id for item in source] == [item.id for item in source]


def test_rows_of_other_content_under_one_id_are_named_by_it(tmp_path):
    def names(*answers):
        rows = [{"id": 7, "prompt": Q, "response": answer} for answer in answers]
        items = list(load_examples(write(tmp_path / "a.jsonl", *rows)))
        assert [item.own_id for item in items] == [7] * len(items)
        assert [item.line for item in items] == list(range(1, len(items) + 1))
        return dict(zip([item.id for item in items], answers, strict=True))

    few, many = names("a", "b", "c"), names("a", "d", "c", "d", "b", "a")
    assert few.items() <= many.items(), "what stands between two rows renames neither"
    (b,) = (name for name, answer in few.items() if answer == "b")
    assert re.fullmatch(r"7#[0-9a-f]{8}", b)
    assert {"7", "7#2"} < {*many}
    assert len(many) == 6


def test_the_rows_own_id_is_kept_as_it_was(tmp_path):
    owns = [5, "5", 1.5, None, [1]]
    rows = [{"id": own, "prompt": Q, "response": str(own)} for own in owns]
    items = list(load_examples(write(tmp_path / "a.jsonl", *rows, {"id": 9, "prompt": Q})))
    assert [item.own_id for item in items] == [5, "5", 1.5, None, "[1]", 9]
    assert replace(items[0], label=1).permuted([0]).own_id == 5
    assert items[0] == replace(items[0], line=None, own_id=None)


@pytest.mark.parametrize("indent", [None, 2])
def test_json_arrays_are_read_with_the_line_of_each_row(tmp_path, indent):
    rows = [{"prompt": Q, "response": A}, {"prompt": Q}, {"prompt": "r", "response": A}]
    path = tmp_path / "rows.json"
    path.write_text("\ufeff\n" + json.dumps(rows, indent=indent))
    items = list(load_examples(path))
    assert [type(item) for item in items] == [Example, BadRow, Example]
    lines = [items[0].meta["line"], items[1].line, items[2].meta["line"]]
    assert lines == ([2, 2, 2] if indent is None else [3, 7, 10])


def test_json_files_of_other_forms_are_read_as_far_as_they_go(tmp_path):
    row, path = json.dumps({"prompt": Q, "response": A}), tmp_path / "rows.json"

    def kinds(text):
        path.write_text(text)
        return [getattr(item, "reason", "good").split(":")[0] for item in load_examples(path)]

    assert kinds(f"{row}\n{row}\n") == ["good", "good"]
    assert kinds("") == []
    assert kinds("[]") == []
    assert kinds(f"[{row}, {row}") == ["good", "good", "the file ends before its array is closed"]
    assert kinds(f"[{row}, oops, {row}]") == ["good", "this is not JSON (Expecting value)"]


def test_parquet_is_read_and_a_broken_one_is_a_bad_row(tmp_path):
    rows = [{"prompt": Q, "responses": [A, B], "label": i % 2} for i in range(100)]
    rows[3]["label"] = None
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    items = list(load_examples(path))
    assert [item.label for item in items[:5]] == [0, 1, 0, None, 0]
    assert items[-1].meta["line"] == 100
    path.write_bytes(path.read_bytes()[:500])
    (broken,) = load_examples(path)
    assert "this Parquet file cannot be read" in broken.reason


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path, suffix):
    def peak(count):
        path = tmp_path / f"{count}{suffix}"
        rows = [{"prompt": f"{i}", "response": f"{i:04}" * 2500} for i in range(count)]
        if suffix == ".jsonl":
            write(path, *rows)
        else:
            # As the hub writes them; a reader holds a page or two, however large these are.
            table = pyarrow.Table.from_pylist(rows)
            pyarrow.parquet.write_table(table, path, row_group_size=100)
            del table
        del rows
        tracemalloc.start()
        # Arrow's own memory is not Python's.
        arrow = [pyarrow.total_allocated_bytes() for _ in load_examples(path)]
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(arrow) == count
        return top + max(arrow)

    peak(200)
    few, many = peak(200), peak(2000)
    assert many - few < 3_000_000, "of 18 MB more of rows"


def test_a_folder_is_all_of_its_files_and_split_chooses(tmp_path):
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "train-0.jsonl", {"prompt": "a", "response": A})
    write(tmp_path / "data" / "train-1.jsonl", {"prompt": "b", "response": A})
    write(tmp_path / "test with spaces.jsonl", {"prompt": "c", "response": A})
    (tmp_path / "README.md").write_text("not rows")

    def prompts(**settings):
        return [item.prompt[0].content for item in load_examples(tmp_path, **settings)]

    assert prompts() == ["a", "b", "c"]
    assert prompts(split="train") == ["a", "b"]
    with pytest.raises(ValueError, match="holds no file whose name begins with 'dev'"):
        prompts(split="dev")


def test_the_mapping_that_was_used_is_told(tmp_path):
    path = write(tmp_path / "rows.jsonl", {"x": 1}, {"input": Q, "output_1": A, "output_2": B})
    mapping = load_examples(path).mapping
    assert mapping.startswith(f"{path}: read with the prompt from input; label 1 or 2")
    implicit = {"chosen": [user(Q), model(A)], "rejected": [user(Q), model(B)]}
    shared = load_examples(write(path, implicit)).mapping
    assert "prompt from the turns that chosen and rejected share; chosen is better" in shared
    assert "label 0" in shared
    unknown = load_examples(write(path, {"x": 1})).mapping
    assert "no row can be read; the first one: no known shape of row fits the columns x" in unknown
    assert load_examples(write(path)).mapping == f"{path}: no rows."


def test_what_cannot_be_opened_is_refused_in_a_sentence(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="there is no file or folder at"):
        load_examples(tmp_path / "none.jsonl")
    with pytest.raises(FileNotFoundError, match="there is no file at"):
        load_examples("data/none.jsonl")
    (tmp_path / "rows.txt").write_text("a,b")
    with pytest.raises(ValueError, match=r"is not a kind of file that is read; those are \.jsonl"):
        load_examples(tmp_path / "rows.txt")
    with pytest.raises(ValueError, match="holds no file of the kinds"):
        load_examples(tmp_path)
    path = write(tmp_path / "rows.jsonl")
    with pytest.raises(ValueError, match="split 'test' is for folders and the hub"):
        load_examples(path, "test")
    with pytest.raises(ValueError, match="are for folders and the hub"):
        load_examples(path, name="x")
    assert list(load_examples(path)) == []


def test_hub_data_sets_come_through_datasets(monkeypatch):
    import datasets

    table = datasets.Dataset.from_list([{"prompt": Q, "chosen": A, "rejected": B}] * 2)
    asked = []

    def load(*arguments, **settings):
        asked.append((arguments, settings))
        return table if settings["split"] else datasets.DatasetDict(train=table, test=table)

    monkeypatch.setattr(datasets, "load_dataset", load)
    items = list(load_examples("owner/set", "train", name="n", data_dir="preference"))
    assert asked == [(("owner/set", "n"), {"split": "train", "data_dir": "preference"})]
    assert [item.responses for item in items] == [(A, B)] * 2
    assert items[1].id == items[0].id + "#2"
    with pytest.raises(ValueError, match="owner/set has the splits train, test: choose one"):
        load_examples("owner/set")


def test_a_hub_without_a_network_is_told_in_a_sentence(monkeypatch):
    import datasets.config
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="no file or folder nobody/nothing, and the data set"):
        load_examples("nobody/nothing")


# Folder, number of rows, and how often each (number of responses, label) comes.
SHARED = {
    "hub_schema/allenai__reward-bench/data": {(2, 0): 2582},
    "hub_schema/NCSOFT__offsetbias": {(2, 0): 80},
    "hub_schema/lmarena-ai__PPE-Human-Preference-V1": {(2, 0): 422, (2, 1): 472, (2, None): 105},
    "hub_schema/lmarena-ai__PPE-MMLU-Pro-Best-of-K": {(16, None): 210},
    "hub_schema/Skywork__Skywork-Reward-Preference-80K-v0.2": {(2, 0): 1200},
    "hub_schema/trl-lib__ultrafeedback_binarized": {(2, 0): 1200},
    "ultrafeedback_binarized_sample": {(2, 0): 1200},
    "llmbar/Dataset/LLMBar": {(2, 0): 206, (2, 1): 213},
    "rmb/RMB_dataset/Pairwise_set": {(2, 0): 276},
    "dpo_en_demo": {(2, 0): 300},
    "magpie_armorm": {(5, 0): 1, (5, 2): 2, (5, 3): 1, (5, 4): 1},
}


@pytest.mark.parametrize("folder", SHARED)
def test_the_shared_data_is_read_whole(shared_data, folder):
    items = list(load_examples(shared_data / folder))
    counts = Counter((item.n, item.label) for item in items if isinstance(item, Example))
    assert counts == SHARED[folder]
    assert len({item.id for item in items}) == len(items)
    assert not any(isinstance(item, BadRow) for item in items)


def test_best_of_n_and_labelled_solutions_of_the_shared_data(shared_data):
    best = list(load_examples(shared_data / "rmb/RMB_dataset/BoN_set"))
    assert len(best) == 581
    assert all(item.label == 0 and item.n > 2 for item in best)
    solved = list(load_examples(shared_data / "gsm8k/example_model_solutions.jsonl"))
    assert len(solved) == 1319
    assert all(item.reference and set(item.scores) <= {0.0, 1.0} for item in solved)
    (first, *_) = load_examples(shared_data / "hub_schema/lmarena-ai__PPE-MMLU-Pro-Best-of-K")
    assert [len(pair) for pair in first.meta["sampled_conflict_pairs"]] == [2] * 5


def test_reading_rows_imports_neither_datasets_nor_jax():
    code = (
        "import sys, grm_jax.data.sources; print({'datasets', 'pyarrow', 'jax'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
