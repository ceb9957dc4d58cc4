"""`grm data real`: whole runs on a few rows, read back as judges and trainers read them."""

import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from grm_jax import cli
from grm_jax.data.config import ItemsConfig, SourceConfig
from grm_jax.data.demonstrations import open_source
from grm_jax.data.items import load_items
from grm_jax.data.real import shortcuts
from grm_jax.data.real.config import RealDataConfig, RealSource
from grm_jax.data.real.critiques import critique
from grm_jax.data.real.finding import Query
from grm_jax.data.real.kinds import Quota
from grm_jax.data.real.materials import Material, read_materials
from grm_jax.data.real.prompt_groups import sides
from grm_jax.data.real.sentences import sentences
from grm_jax.data.real.writing import write_real_data
from grm_jax.data.sources import load_examples
from grm_jax.text.messages import Example
from grm_jax.text.parse import parse_judgment
from grm_jax.text.prompts import load_templates
from grm_jax.text.tokenizer import Tokenizer
from tests.data.real import texts

CHATS = ("demonstrations.jsonl", "drills.jsonl")
FILES = ("train.jsonl", "heldout.jsonl", *CHATS, "manifest.json", "README.md")


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    return (
        RealSource(jsonl(folder / "preferences.jsonl", texts.PREFERENCES), "MIT"),
        RealSource(jsonl(folder / "problems.jsonl", texts.PROBLEMS), "Apache-2.0", "problems"),
    )


@pytest.fixture(scope="module")
def cfg(sources):
    return RealDataConfig(sources, per_prompt=8, heldout=0.3)


@pytest.fixture(scope="module")
def made(cfg, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    write_real_data(cfg, folder)
    return folder


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_same_settings_give_the_same_bytes_and_another_seed_other_items(cfg, made, tmp_path):
    write_real_data(cfg, tmp_path)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (made / name).read_bytes(), name
    write_real_data(replace(cfg, seed=1), tmp_path)
    assert rows(tmp_path / "train.jsonl") != rows(made / "train.jsonl")
    prompts = {row["prompt"] for row in rows(tmp_path / "heldout.jsonl")}
    assert not prompts & {row["prompt"] for row in rows(made / "train.jsonl")}


def test_each_round_finds_other_faults_in_the_same_prompts_of_the_train_side(cfg, made, tmp_path):
    write_real_data(replace(cfg, rounds=3), tmp_path)
    held = "heldout.jsonl"
    assert (tmp_path / held).read_bytes() == (made / held).read_bytes()
    for name in ("train.jsonl", *CHATS):
        first = [json.dumps(row) for row in rows(made / name)]
        more = [json.dumps(row) for row in rows(tmp_path / name)]
        # Of a problem the first ones by hash are shown, whatever the round.
        assert set(first) < set(more) or name == "demonstrations.jsonl", name
        assert len(set(more)) > 2 * len(set(first)), name
    units = [{row["unit"] for row in rows(at / "train.jsonl")} for at in (made, tmp_path)]
    assert units[0] == units[1]


def test_one_answer_is_good_where_its_source_or_its_label_says_so(tmp_path):
    taught = {"instruction": texts.TEA, "input": "Be kind.", "response": texts.TEA_GOOD}
    right, wrong = (
        {"prompt": prompt, "responses": [texts.TEA_GOOD], "label": label}
        for prompt, label in ((texts.BREAD, 1), (texts.CHESS, 0))
    )
    counts = Counter()
    read = read_materials(
        (
            RealSource(jsonl(tmp_path / "answers.jsonl", [taught]), "MIT", "answers"),
            RealSource(jsonl(tmp_path / "labelled.jsonl", [right, wrong]), "MIT"),
        ),
        counts,
    )
    assert {one.prompt for one in read} == {f"{texts.TEA}\n\nBe kind.", texts.BREAD}
    assert all(answer.good for one in read for answer in one.answers)
    assert counts["no good answer in English"] == 1


def test_items_are_read_back_labelled_and_no_prompt_is_on_both_sides(made):
    seen = {}
    for side in ("train", "heldout"):
        path = made / f"{side}.jsonl"
        examples = list(load_examples(path))
        assert all(isinstance(one, Example) and one.label is not None for one in examples)
        assert len(load_items((ItemsConfig(str(path)),), 0)) == len(examples) > 5
        seen[side] = {one.prompt[0].content.partition("\n\n")[0] for one in examples}
        for row, one in zip(rows(path), examples, strict=True):
            good = [kind == "good" for kind in row["kinds"]]
            assert sum(good) == 1 if one.n > 1 else good == [bool(one.label)]
            assert one.n == 1 or good[one.label]
            assert row["licence"] in ("MIT", "Apache-2.0")
            assert one.meta["unit"] == row["unit"]
            assert len(set(one.responses)) == one.n
    assert not seen["train"] & seen["heldout"]


def test_the_first_rows_of_a_file_are_a_sample_of_all_sources(made):
    sources = [row["source"] for row in rows(made / "train.jsonl")]
    assert len(set(sources)) == 2
    changes = sum(a != b for a, b in pairwise(sources))
    assert changes > len(sources) / 5  # 1 where one source comes after the other


def test_demonstrations_are_read_as_sft_reads_them_and_score_as_the_labels_say(made):
    tokenizer, templates = Tokenizer.load("tiny"), load_templates("short")
    path = str(made / "demonstrations.jsonl")
    source = open_source(SourceConfig(path), tokenizer, templates, 0)
    items = {row["id"]: row for row in rows(made / "train.jsonl")}
    shown = rows(made / "demonstrations.jsonl")
    texts_ = {id for id, r in items.items() if "reference" not in r and r["kind"] != "preference"}
    problems = {row["unit"] for row in items.values() if "reference" in row}
    of_problems = [row["id"] for row in shown if row["id"] not in texts_]
    assert len(source) == len(shown) == len(texts_) + len(of_problems)
    assert {items[id]["unit"] for id in of_problems} == problems
    assert len(of_problems) == len(problems)  # one each
    assert source[0].learn.any()
    for row in shown:
        item, (asked, answer) = items[row["id"]], row["messages"]
        assert all(text.strip() in asked["content"] for text in item["responses"])
        single = "Is the response" in asked["content"]
        low, high = (0, 1) if single else (1, 10)
        n = len(item["responses"])
        found = parse_judgment(answer["content"], n, low, high, label="Scores").scores
        assert found is not None
        if n > 1:
            assert max(found) == found[item["label"]]
            assert found.count(max(found)) == 1
        else:
            assert (found[0] == (1 if single else 9)) == bool(item["label"])


def test_drills_are_read_as_sft_reads_them_and_hold_no_sentence_of_the_other_side(made):
    templates = load_templates("short")
    shown = rows(made / "drills.jsonl")
    path = str(made / "drills.jsonl")
    assert len(open_source(SourceConfig(path), Tokenizer.load("tiny"), templates, 0)) == len(shown)
    assert json.loads((made / "manifest.json").read_text())["items"]["drills"] == len(shown) > 3
    asked = "\n".join(row["messages"][0]["content"] for row in shown)
    for row in rows(made / "heldout.jsonl"):
        if "reference" not in row and len(row["responses"]) > 1:
            good = row["responses"][row["label"]]
            assert not any(one in asked for one in sentences(good) if len(one.split()) > 4)


def test_a_critique_follows_from_the_texts_and_not_from_the_label():
    query = Query(texts.TEA)
    both = [texts.TEA_GOOD, texts.TEA_GOOD[:150]]
    for style in range(12):
        told = critique(query, both, np.random.default_rng(style), binary=False)
        swapped = critique(query, both[::-1], np.random.default_rng(style), binary=False)
        assert r"\boxed{9, 6}" in told
        assert r"\boxed{6, 9}" in swapped
        assert texts.TEA_GOOD[:150].split()[-1] in told


def test_answers_are_shortened_so_that_two_fit_into_an_item(cfg, tmp_path):
    short = replace(cfg, sources=cfg.sources[:1], longest=420)  # answers have some 270 characters
    write_real_data(short, tmp_path)
    items = rows(tmp_path / "train.jsonl") + rows(tmp_path / "heldout.jsonl")
    assert sum(len(item["responses"]) > 1 for item in items) > 24  # of whole answers: 12


def test_near_duplicates_are_on_one_side():
    prompts = [
        f"tell me about the history of the city number {i} please and why" for i in range(40)
    ]
    assert len(set(sides(prompts, 0.5))) == 1
    apart = [f"{i} {i + 1} {i + 2} {i + 3} {i + 4} {i + 5}" for i in range(0, 400, 10)]
    assert set(sides(apart, 0.5)) == {"train", "heldout"}


def test_a_problem_s_solutions_are_right_or_wrong_by_their_last_number(sources):
    found = {one.prompt: one for one in read_materials(sources, Counter())}
    apples = found[texts.APPLES]
    assert isinstance(apples, Material)
    assert [(one.good, "<<" in one.text) for one in apples.answers] == [
        (True, False),
        (False, False),
    ]
    assert apples.gold == "3"
    tea = found[texts.TEA]
    assert [(one.good, one.score) for one in tea.answers] == [(True, 8.5), (False, 4.0)]


def test_rows_that_do_not_serve_are_counted_and_a_source_of_none_is_an_error(tmp_path):
    turns = [{"role": role, "content": "Hello there."} for role in ("user", "assistant", "user")]
    odd = [
        {"prompt": turns, "chosen": "A long enough answer to it.", "rejected": "No."},
        {
            "prompt": "Сколько стоит чай?",
            "chosen": "Чай стоит три рубля за чашку.",
            "rejected": "Не",
        },
        {"prompt": "What is it?", "chosen": "It is.", "rejected": "No."},
    ]
    source = RealSource(jsonl(tmp_path / "odd.jsonl", odd), "MIT")
    with pytest.raises(ValueError, match=r"no row of .*odd.jsonl serves: prompts of one turn"):
        read_materials((source,), Counter())
    counts = Counter()
    good = RealSource(jsonl(tmp_path / "both.jsonl", [*odd, texts.PREFERENCES[0]]), "MIT")
    assert len(read_materials((good,), counts)) == 1
    assert counts == {
        "rows": 4,
        "several turns": 1,
        "a long prompt, or not in English": 1,
        "no good answer in English": 1,
    }


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"licence": "CC-BY-NC-4.0"}, "'CC-BY-NC-4.0'; only rows under MIT or Apache-2.0"),
        ({"source": "world"}, "the small world is no real text"),
        ({"limit": 0}, "limit is 0"),
    ],
)
def test_a_source_that_may_not_be_used_is_an_error(values, said):
    with pytest.raises(ValueError, match=said):
        RealSource(**{"source": "rows.jsonl", "licence": "MIT"} | values)


def test_the_items_of_a_prompt_are_one_unit(made):
    found = rows(made / "train.jsonl")
    bare = {row["prompt"].partition("\n\n")[0]: row["unit"] for row in found}
    assert len(set(bare.values())) == len({row["unit"] for row in found})
    assert len({row["unit"] for row in found}) < len(found)
    assert all(row["unit"] == bare[row["prompt"].partition("\n\n")[0]] for row in found)


def test_neither_direction_of_length_gets_far_ahead():
    quota = Quota(0)
    for _ in range(100):
        if not quota.refuses("cut", -1):
            quota.take("cut", -1)
    assert quota.made["cut"] < 12
    assert quota.wants_longer("cut")
    assert not quota.refuses("cut", 1)


def test_length_and_surface_are_measured_where_they_decide():
    def item(good, bad, label):
        shown = (good, bad) if label == 0 else (bad, good)
        return shortcuts.Item(Query("q"), shown, label, "kind", ("", ""), "pair", None)

    items = [item("long words " * 9 + f"{i}.", f"short {i}.", i % 2) for i in range(20)]
    reached = shortcuts.baselines(items, items)["kind"]
    assert reached == {"items": 20, "guess": 0.5, "longest": 1.0, "features": 1.0}
    same = [item("one text.", "one text.", i % 2) for i in range(20)]
    assert shortcuts.baselines(same, same)["all"]["features"] == 0.5


def test_the_command_claims_its_folder_and_reads_sources_from_its_options(
    sources, tmp_path, capsys
):
    given = [{"source": one.source, "licence": one.licence, "holds": one.holds} for one in sources]
    output = tmp_path / "out"
    arguments = ["data", "real", "--output", str(output), "--heldout", "0.3"]
    arguments += ["--sources", json.dumps(given)]
    assert cli.main(arguments) == 0
    assert "train" in capsys.readouterr().out
    assert (output / "config.yaml").is_file()
    before = {name: (output / name).read_bytes() for name in FILES}
    assert cli.main(arguments) == 0
    assert {name: (output / name).read_bytes() for name in FILES} == before
    assert cli.main([*arguments, "--seed", "3"]) == 2
    assert "seed was 0 and is now 3" in capsys.readouterr().err
    assert cli.main(["data", "real", "--config", "real_data", "--sources", "[]"]) == 2
