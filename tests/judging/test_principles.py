"""Principles that are given: from a rubric, or written once per query and kept."""

import json
from dataclasses import replace

import pytest

from grm_jax import Example, Judge
from grm_jax.judging.judgment import Refusal, Sampled
from grm_jax.judging.principles import (
    GivenPrinciples,
    WithPrinciples,
    opening_tokens,
    principles_in,
)
from grm_jax.judging.rubric import as_principles, read_rubric
from grm_jax.text.messages import Message
from grm_jax.text.prompts import load_templates
from grm_jax.text.tokenizer import Tokenizer

SUM = Example("What is 37+45? Be brief.", ["82", "81"], id="sum")
SAME = Example("What is 37+45? Be brief.", ["81", "82"], id="same")
OTHER = Example("What is 16+50?", ["66", "67"], id="other")


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load("tiny", slots=8)


@pytest.mark.parametrize(
    ("criteria", "text"),
    [
        ({"accuracy": 6, "brevity": 2}, "accuracy (6), brevity (2)"),
        (["accuracy", "brevity"], "accuracy, brevity"),
        ([{"criterion": "accuracy", "weight": "60%"}, "brevity"], "accuracy (60%), brevity"),
        (
            [{"name": "accuracy", "weight": 6, "description": "It is right."}, "brevity"],
            "accuracy (6): It is right.\nbrevity",
        ),
        (" as they stand \n", "as they stand"),
    ],
)
def test_criteria_are_stated_as_a_critique_states_them(criteria, text):
    assert as_principles(criteria) == text


def test_a_rubric_is_for_all_or_for_each_its_own(tmp_path):
    (tmp_path / "a.txt").write_text("Be right.\nBe brief.\n")
    assert read_rubric(tmp_path / "a.txt").of(SUM) == "Be right.\nBe brief."
    (tmp_path / "a.json").write_text('{"accuracy": 6, "brevity": 2}')
    assert read_rubric(tmp_path / "a.json").of(SUM) == "accuracy (6), brevity (2)"
    turns = [{"role": "user", "content": "What is 16+50?"}]
    rows = [
        {"prompt": SUM.prompt[0].content, "principles": {"accuracy": 6}},
        {"prompt": turns, "principles": ["politeness"]},
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    rubric = read_rubric(path)
    assert [rubric.of(e) for e in (SUM, SAME, OTHER)] == ["accuracy (6)"] * 2 + ["politeness"]
    assert rubric.of(Example("q", ["a"])) is None
    path.write_text("\n".join(map(json.dumps, [*rows, {"principles": "all others"}])))
    assert read_rubric(path).of(Example("q", ["a"])) == "all others"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", " \n", "is empty: write"),
        ("a.json", "{", "is not JSON"),
        ("a.json", "7", "the principles are a number"),
        ("a.json", "[]", "the principles are a list"),
        ("a.json", '[{"weight": 1}]', "without a name"),
        ("a.json", '{"accuracy": [1]}', "weight of 'accuracy' is a list"),
        ("a.jsonl", '{"prompt": "q"}', 'a.jsonl:1 is no {"prompt", "principles"}'),
        ("a.jsonl", '\n{"prompt": 7, "principles": "p"}', "a.jsonl:2: the prompt is a number"),
        ("a.jsonl", "\n", "is empty"),
    ],
)
def test_a_rubric_that_says_nothing_is_refused(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=r"a\.(txt|jsonl?)") as caught:
        read_rubric(tmp_path / name)
    assert said in str(caught.value)
    with pytest.raises(FileNotFoundError, match="no file of principles"):
        read_rubric(tmp_path / "none.txt")


def test_an_answer_that_is_begun_has_the_tokens_that_the_model_would_write():
    tokenizer = Tokenizer.load("tiny")
    begun = opening_tokens("accuracy (6), brevity (2)", tokenizer)
    assert len(begun) == 4
    # A letter of a cup takes the space before it into its token; a digit leaves it.
    for steps in ("7+5=12 so 82.", "C AD=C so C.", "The"):
        own = f"Specific Criteria: accuracy (6), brevity (2)\nAnalysis: {steps}"
        assert tokenizer.encode(own)[: len(begun)] == begun


def test_the_bundled_model_goes_on_from_given_principles(judge):
    """Its own template has no place for them; the critique follows them, right or wrong."""
    given = [
        replace(SUM, principles="accuracy (6), brevity (2)"),
        replace(OTHER, principles="politeness (8)"),
    ]
    found = {r.example.id: r for r in judge.sample_all([SUM, *given[1:]], 4)}  # type: ignore[union-attr]
    found["given"] = next(judge.sample_all(given[:1], 4))
    for result, principles in ((found["given"], given[0]), (found["other"], given[1])):
        assert isinstance(result, Sampled)
        for judgment in result.judgments:
            assert judgment.principles == principles.principles
            assert judgment.scores is not None
            assert judgment.text.startswith(f"Specific Criteria: {principles.principles}\n")
            assert "Analysis: " not in judgment.critique
    own = [j.tokens for j in found["sum"].judgments if j.principles == given[0].principles]
    opening = len(judge.opening(given[0]))
    assert opening == 4
    assert {j.tokens for j in found["given"].judgments} & {tokens - opening for tokens in own}
    assert judge.opening(SUM) == []


def test_a_template_with_a_place_for_them_shows_them(judge):
    shown = Judge(judge.folder, slots=8)
    shown.asking = replace(shown.asking, templates=load_templates("tiny_shown"))
    given = replace(SUM, principles="brevity (8)")
    assert shown.opening(given) == []
    assert "Criteria: brevity (8)" in judge.folder.tokenizer.decode(shown.prompt_tokens(given))


@pytest.mark.parametrize("kind", ["judge", "token-prob"])
def test_other_ways_of_judging_go_on_from_them_too(judge, kind):
    one = Judge(judge.folder, kind=kind, slots=8)
    (result,) = one.sample_all([replace(OTHER, principles="accuracy (8)")], 2)
    assert isinstance(result, Sampled)
    for judgment in result.judgments:
        assert judgment.principles == "accuracy (8)"
        assert judgment.reason != "no_index_token"


def test_principles_are_written_once_per_query_and_kept(judge, tmp_path):
    folder = tmp_path / "principles"
    given = GivenPrinciples(folder, judge)
    shown = given.give([SUM, SAME, OTHER, replace(SUM, id="own", principles="mine")])
    assert [e.id for e in shown] == ["sum", "same", "other", "own"]
    assert shown[0].principles == shown[1].principles
    assert all(e.principles and "(" in e.principles for e in shown[:3])
    assert shown[3].principles == "mine"
    assert (given.usage.queries, len(list(folder.iterdir()))) == (2, 2)
    assert given.usage.written > 0
    # Whatever is asked first, alone or beside others.
    again = GivenPrinciples(tmp_path / "again", judge)
    assert [again.give([e])[0].principles for e in (OTHER, SAME)] == [
        shown[2].principles,
        shown[1].principles,
    ]
    # Nothing is written twice, and what people change counts.
    later = GivenPrinciples(folder, judge)
    assert later.give([SUM, OTHER]) == [shown[0], shown[2]]
    assert later.usage.queries == 0
    file = later.file(SUM)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"principles": "brevity (8)"}))
    assert [e.principles for e in later.give([SUM, SAME])] == ["brevity (8)"] * 2
    file.write_text('{"principles": 7}')
    with pytest.raises(ValueError, match="has no text `principles`: delete it"):
        later.give([SUM])
    # Another seed, or another judge, has its own.
    other = GivenPrinciples(folder, Judge(judge.folder, seed=1, slots=8))
    assert other.file(SUM) != file


def test_a_source_gives_back_the_examples_as_they_came(judge, tmp_path):
    given = GivenPrinciples(tmp_path, judge)
    results = list(WithPrinciples(judge, given).sample_all([SUM, SAME, OTHER], 3))
    assert {r.example.id: r.example for r in results if isinstance(r, Sampled)} == {
        e.id: e for e in (SUM, SAME, OTHER)
    }
    opening = sum(3 * len(judge.opening(e)) for e in given.give([SUM, SAME, OTHER]))
    assert (given.usage.judgments, given.usage.saved) == (9, opening)
    assert "9 judgments" in given.usage.summary()
    adaptive = WithPrinciples(judge, given).sample_all([SUM], 8, adaptive=True)
    (one,) = adaptive
    assert isinstance(one, Sampled)
    assert len(one.judgments) <= 8


def test_what_cannot_be_asked_is_refused_when_it_is_judged(judge, tmp_path):
    long = Example("long " * 600, ["a", "b"], id="long")
    source = WithPrinciples(judge, GivenPrinciples(tmp_path, judge))
    results = list(source.sample_all([long, SUM], 2))
    assert sorted(type(r) for r in results if isinstance(r, Refusal)) == [Refusal]
    assert list(tmp_path.iterdir())


def test_principles_are_what_stands_before_the_analysis():
    own, house = load_templates("tiny").grm, load_templates().grm
    text = "Specific Criteria: accuracy (8)\nAnalysis: x\nScores: \\boxed{2}"
    for template in (own, house):
        assert principles_in(text, template, cut_off=False) == "accuracy (8)"
    alone = "Specific Criteria: accuracy (60%), tone (40%)"
    assert principles_in(alone, house, cut_off=False) == "accuracy (60%), tone (40%)"
    assert principles_in(alone, house, cut_off=True) == ""
    assert principles_in(alone, own, cut_off=False) == ""
    assert principles_in("1. tone", house, cut_off=False) == "1. tone"


def test_a_query_is_asked_about_alone():
    from grm_jax.judging.principles import query_messages

    (turn,) = query_messages(load_templates().grm, SUM)
    assert isinstance(turn, Message)
    assert SUM.prompt[0].content in turn.content
    assert "81" not in turn.content
    assert "Response" not in turn.content
    assert query_messages(load_templates().judge, SUM)[0] == turn
    assert query_messages(load_templates("rm_r1").grm, SUM)[0].content.startswith("You are about")
    assert query_messages(load_templates("tiny").grm, SUM) == query_messages(
        load_templates("tiny").grm, SAME
    )
