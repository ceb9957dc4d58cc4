"""RewardBench: sections weigh their subsets by the official counts; a judge's tie or error is half,
a scalar model's is nothing."""

import math
import random

import pytest

from grm_jax.data.sources import BadRow
from grm_jax.evals.benchmarks import find
from grm_jax.evals.benchmarks.reward_bench import FULL, PRIOR_SETS, SECTIONS, WEIGHTS
from grm_jax.text.messages import Example

REWARDBENCH, PRIOR = find("rewardbench"), find("prior-sets")
RIGHT, WRONG, TIE = (9.0, 2.0), (2.0, 9.0), (5.0, 5.0)


def pair(subset, number=0):
    return Example("q", ["a", "b"], f"{subset}-{number}", label=0, meta={"subset": subset})


def row(subset, **more):
    return {"prompt": "q", "chosen": "a", "rejected": "b", "subset": subset} | more


def test_the_official_counts():
    assert sum(FULL.values()) == 2985
    assert [sum(weights.values()) for weights in WEIGHTS.values()] == [358, 456, 740, 1968]
    assert set(WEIGHTS) == set(SECTIONS)
    # XSTest has 250 safe prompts, which should be answered.
    assert (FULL["xstest-should-refuse"], FULL["xstest-should-respond"]) == (154, 250)


def test_a_section_weighs_subsets_by_official_counts_whatever_came_in(cells_of):
    judged = [(pair(subset), RIGHT) for subset in FULL if subset not in ("math-prm", "hep-go")]
    judged += [(pair("math-prm", n), RIGHT if n < 1 else WRONG) for n in range(4)]  # 25 %
    judged += [(pair("hep-go"), WRONG)]
    cells = cells_of(REWARDBENCH, judged)
    reasoning = (984 * 25 + 5 * 164 * 100 + 164 * 0) / 1968
    assert cells["math-prm"] == 25
    assert cells["Reasoning"] == pytest.approx(reasoning)
    assert cells["RewardBench"] == pytest.approx((100 + 100 + 100 + reasoning) / 4)
    assert list(cells)[:6] == ["RewardBench", *SECTIONS, "alpacaeval-easy"]


def test_a_tie_and_an_error_are_half_for_a_judge_and_nothing_for_a_scalar_model(cells_of):
    judged = [
        (pair("donotanswer", n), totals) for n, totals in enumerate((RIGHT, WRONG, TIE, None))
    ]
    assert cells_of(REWARDBENCH, judged)["donotanswer"] == pytest.approx(50)
    assert cells_of(REWARDBENCH, judged, scalar=True)["donotanswer"] == pytest.approx(25)


def test_cells_do_not_depend_on_the_order_of_rows(cells_of):
    rng = random.Random(0)
    judged = [(pair(s, n), (rng.random(), rng.random())) for s in FULL for n in range(3)]
    cells = cells_of(REWARDBENCH, judged)
    rng.shuffle(judged)
    assert cells_of(REWARDBENCH, judged) == pytest.approx(cells)


def test_without_a_subset_its_section_and_the_whole_have_no_number(cells_of):
    cells = cells_of(REWARDBENCH, [(pair(s), RIGHT) for s in FULL if s != "donotanswer"])
    assert math.isnan(cells["donotanswer"])
    assert math.isnan(cells["Safety"])
    assert math.isnan(cells["RewardBench"])
    assert cells["Reasoning"] == 100


def test_the_shared_rows_are_partial_and_it_is_said_of_what(shared_data, table_of):
    examples = list(REWARDBENCH.read(str(shared_data / "hub_schema")))
    assert not [item for item in examples if isinstance(item, BadRow)]
    assert len({example.id for example in examples}) == len(examples) == 2582
    found = REWARDBENCH.found(table_of(REWARDBENCH, [(e, RIGHT) for e in examples]))
    assert REWARDBENCH.label(found) == "RewardBench (partial: 2582 of 2985 rows)"
    assert "donotanswer: 0 of 136" in REWARDBENCH.missing(found)
    assert not [line for line in REWARDBENCH.missing(found) if line.startswith(("hep", "llmbar"))]
    assert REWARDBENCH.label(FULL) == "RewardBench"
    assert REWARDBENCH.missing(FULL) == []


def test_the_same_rows_by_file_folder_and_folder_of_folders(shared_data):
    folder = shared_data / "hub_schema" / "allenai__reward-bench"
    file = folder / "data" / "filtered-00000-of-00001.parquet"
    firsts = [next(iter(REWARDBENCH.read(str(path)))) for path in (folder.parent, folder, file)]
    assert firsts[0] == firsts[1] == firsts[2]


def test_a_wrong_file_says_which_columns_it_lacks(write_rows):
    path = write_rows("x.jsonl", {"prompt": "q", "chosen": "a", "rejected": "b"})
    with pytest.raises(ValueError, match=r"lacks the columns subset \(it has prompt, chosen"):
        REWARDBENCH.read(path)
    with pytest.raises(ValueError, match="no rows with columns"):
        REWARDBENCH.read(write_rows("empty.jsonl"))
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jsonl"):
        REWARDBENCH.read("nowhere.jsonl")


def test_bad_rows_are_told_with_their_lines(write_rows):
    three = row("hep-go", rejected=["b", "c"])
    path = write_rows("x.jsonl", row("hep-go"), row("poetry"), three, row("hep-go", rejected=3))
    good, *bad = REWARDBENCH.read(path)
    assert good.meta["subset"] == "hep-go"
    assert [item.line for item in bad] == [2, 3, 4]
    reasons = ("'poetry', which is none of alpacaeval-easy", "3 responses", "a number")
    for item, reason in zip(bad, reasons, strict=True):
        assert reason in str(item)


def test_prior_sets_leave_out_longer_conversations_where_a_judge_writes(write_rows, tmp_path):
    """As the official script for such judges does; that for scalar models has all of them."""
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    told = [turns[:1], (turns * 2)[:3], (turns * 3)[:5]]
    rows = [{"prompt": prompt, "chosen": "a", "rejected": "b"} for prompt in told]
    write_rows("preference-test-sets/anthropic_helpful-0.jsonl", *rows)
    examples = list(PRIOR.read(str(tmp_path)))
    reasons = [PRIOR.leaves_out(example, False) for example in examples]
    assert reasons[:2] == ["", ""]
    assert reasons[2].startswith("the conversation has 6 messages, the response among them")
    assert [PRIOR.leaves_out(example, True) for example in examples] == [""] * 3


def test_the_ids_of_prior_sets_say_which_set_they_are_of(write_rows, tmp_path):
    row = {"id": "1", "prompt": [{"role": "user", "content": "q"}], "chosen": "a", "rejected": "b"}
    for name in ("shp", "summarize"):
        write_rows(f"preference-test-sets/{name}-0.jsonl", row)
    assert [example.id for example in PRIOR.read(str(tmp_path))] == ["shp/1", "summarize/1"]


def test_prior_sets_are_a_plain_mean_of_four_splits(write_rows, cells_of, tmp_path):
    plain = {"prompt": [{"role": "user", "content": "q"}], "chosen": "a", "rejected": "b"}
    write_rows("preference-test-sets/shp-0.jsonl", plain, plain | {"chosen": "c"})
    write_rows("preference-test-sets/summarize-0.jsonl", plain)
    examples = list(PRIOR.read(str(tmp_path)))
    assert [example.meta["subset"] for example in examples] == ["shp", "shp", "summarize"]
    assert math.isnan(cells_of(PRIOR, [(example, RIGHT) for example in examples])["Prior Sets"])
    totals = zip(PRIOR_SETS, (RIGHT, WRONG, TIE, None), strict=True)
    cells = cells_of(PRIOR, [(pair(name), total) for name, total in totals])
    assert cells["Prior Sets"] == pytest.approx((100 + 0 + 50 + 50) / 4)
    with pytest.raises(ValueError, match="has none of the Prior Sets anthropic_helpful"):
        PRIOR.read(write_rows("other/x.jsonl", plain).removesuffix("/x.jsonl"))
