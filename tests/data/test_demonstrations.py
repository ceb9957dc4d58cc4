"""Demonstrations from the world and from files, as token rows."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from grm_jax.data.config import SourceConfig
from grm_jax.data.demonstrations import open_source
from grm_jax.data.synthetic import CRITERIA, Noise, World, in_words
from grm_jax.judging.folder import bundled
from grm_jax.text.parse import parse_choice, parse_judgment
from grm_jax.text.prompts import load_templates
from grm_jax.text.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.load(bundled("tiny"))


@pytest.fixture(scope="module")
def templates():
    return load_templates(bundled("tiny") / "templates")


def halves(tokenizer, row):
    """The text before what is learned, and the text that is learned."""
    return tokenizer.decode(row.ids[~row.learn]), tokenizer.decode(row.ids[row.learn])


def test_world_rows_teach_the_critique_after_the_prompt(tokenizer, templates):
    rows = open_source(SourceConfig(), tokenizer, templates, seed=5)
    kinds = set()
    for index in range(300):
        lesson = World(seed=5)[index]
        prompt, learned = halves(tokenizer, rows[index])
        assert learned == lesson.critique + "<end_of_turn>"
        assert prompt.startswith("<bos><start_of_turn>user\n" + lesson.example.prompt[0].content)
        assert prompt.endswith("<end_of_turn>\n<start_of_turn>model\n")
        assert ("Best: " in prompt or "Truth: " in prompt) == lesson.hinted
        assert ("Right (1) or wrong (0)?" in prompt) == lesson.binary
        kinds.add((lesson.hinted, lesson.binary))
    assert len(kinds) == 4


def test_choices_are_the_same_lessons_with_the_best_response_at_the_end(tokenizer, templates):
    """Principles and critique word for word; the last line names the highest of the scores."""
    noise = Noise(principle=0.3, step=0.4, score=0.2)
    scores = open_source(SourceConfig("world", noise=noise), tokenizer, templates, seed=5)
    choices = open_source(SourceConfig("choices", noise=noise), tokenizer, templates, seed=5)
    ties = 0
    for index in range(300):
        scored, chosen = (halves(tokenizer, rows[index]) for rows in (scores, choices))
        n = World(seed=5).item(index).example.n
        if n == 1:
            assert scored == chosen
            continue
        shown, rest = chosen[0].split("\nWhich is best?")
        # A prompt ends where its text does: of blanks at its end nothing is left.
        shown = shown.rstrip() if rest.startswith("<end_of_turn>") else shown
        assert shown + rest == scored[0]
        assert chosen[1].splitlines()[:2] == scored[1].splitlines()[:2]
        told, choice = parse_judgment(scored[1], n).scores, parse_choice(chosen[1], n).index
        assert told[choice] == max(told)
        ties += told.count(max(told)) > 1
        assert tokenizer.decode(tokenizer.encode(chosen[1])) == chosen[1]
    assert ties > 10


def test_answers_are_the_worlds_questions_with_their_working(tokenizer, templates):
    rows = open_source(SourceConfig("answers"), tokenizer, templates, seed=5)
    question = World(seed=5).item(3).question
    prompt, learned = halves(tokenizer, rows[3])
    assert question.text in prompt
    assert learned == "{} so {}.<end_of_turn>".format(*question.work())


def test_comparisons_hold_answers_against_right_ones_half_of_them_the_same(tokenizer, templates):
    rows = open_source(SourceConfig("comparisons"), tokenizer, templates, seed=5)
    same = sums = 0
    for index in range(100):
        prompt, learned = halves(tokenizer, rows[index])
        shown = re.findall(r"\[\d\] (.*)", prompt.partition("<end_of_turn>")[0])
        judged = re.findall(r"\[\d\] (.*?): (\w+)", learned)
        assert [pairs for pairs, _ in judged] == shown
        assert len(shown) == 4
        for place, (pairs, word) in enumerate(judged):
            characters = re.findall(r"(\w) against (\w)", pairs)
            item = World(seed=5).item(4 * index + place)
            assert "".join(right for _, right in characters) == item.answer
            assert word == ("right" if all(one == right for one, right in characters) else "wrong")
            same += word == "right"
            sums += item.question.kind == "sum"
            assert len(characters) == (2 if item.question.kind == "sum" else 1)
    assert 150 < same < 250
    assert 80 < sums < 160


def test_noise_reaches_the_world(tokenizer, templates):
    clean = open_source(SourceConfig(), tokenizer, templates, seed=0)
    noise = Noise(principle=1.0, step=1.0, score=1.0)
    noisy = open_source(SourceConfig(noise=noise), tokenizer, templates, seed=0)
    assert all(not np.array_equal(clean[i].ids, noisy[i].ids) for i in range(5))


def test_what_the_prompt_shows_decides_what_is_learned(tokenizer):
    """Given criteria are in the prompt and are gone by; a shown answer is the one that steps reach,
    whatever the noise; where no principles are asked for, none are written."""
    folder = ROOT / "configs" / "templates" / "tiny_shown"
    templates, noise = load_templates(folder), Noise(step=1.0)
    sources = {
        "given": SourceConfig(principles="given", noise=noise),
        "none": SourceConfig(principles="none", templates=str(folder / "no_principles")),
        "reference": SourceConfig(reference=True, noise=noise),
    }
    rows = {k: open_source(source, tokenizer, templates, 5) for k, source in sources.items()}
    foreign = hints = 0
    for index in range(40):
        item = World(seed=5).item(index)
        prompt, learned = halves(tokenizer, rows["given"][index])
        criteria = prompt.partition("Criteria: ")[2].partition("<end_of_turn>")[0]
        assert learned.startswith(f"Specific Criteria: {criteria}\nAnalysis: ")
        foreign += criteria != in_words(CRITERIA[item.ask])
        assert f"so {item.answer}." not in learned  # a slip always changes the answer
        prompt, learned = halves(tokenizer, rows["none"][index])
        assert "No criteria." in prompt
        assert learned.startswith("Analysis: ")
        hints += "Best: " in prompt
        prompt, learned = halves(tokenizer, rows["reference"][index])
        assert f"Right: {item.answer}<end_of_turn>" in prompt
        assert f"so {item.answer}." in learned
    assert 5 < foreign < 35
    # Without principles there are hints and questions of right or wrong as with them.
    assert hints > 0
    single = next(i for i in range(100) if World(seed=5, principles="none")[i].binary)
    prompt, learned = halves(tokenizer, rows["none"][single])
    assert "No criteria. Right (1) or wrong (0)?" in prompt
    assert learned.startswith("Analysis: ")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "2+2?", "completion": "4"},
        {"prompt": "2+2?", "completion": [{"role": "assistant", "content": "4"}]},
        {"prompt": [{"role": "user", "content": "2+2?"}], "completion": "4"},
        {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]},
    ],
)
def test_every_shape_of_row_is_the_same_demonstration(tokenizer, templates, tmp_path, row):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n" + json.dumps(row) + "\n\n" + json.dumps(row))
    rows = open_source(SourceConfig(source=str(path)), tokenizer, templates, 0)
    assert len(rows) == 2
    for index in range(2):
        assert halves(tokenizer, rows[index]) == (
            "<bos><start_of_turn>user\n2+2?<end_of_turn>\n<start_of_turn>model\n",
            "4<end_of_turn>",
        )


def test_only_the_last_turn_is_learned(tokenizer, templates, tmp_path):
    turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row))
    rows = open_source(SourceConfig(source=str(path)), tokenizer, templates, 0)
    assert halves(tokenizer, rows[0])[1] == "d<end_of_turn>"


def test_bad_lines_are_named_before_training_begins(tokenizer, templates, tmp_path):
    good = json.dumps({"prompt": "p", "completion": "c"})
    bad = [
        "{",
        "[1]",
        json.dumps({"text": "x"}),
        json.dumps({"prompt": "p", "completion": " "}),
        json.dumps({"messages": [{"role": "user", "content": "p"}]}),
        json.dumps({"messages": [{"role": "assistant", "content": "p"}]}),
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([good, *bad, good]))
    with pytest.raises(ValueError, match="6 lines are no demonstrations") as caught:
        open_source(SourceConfig(source=str(path)), tokenizer, templates, 0)
    text = str(caught.value)
    for number, reason in ((2, "Expecting"), (3, "no object"), (4, "columns text"), (5, "empty")):
        assert f"rows.jsonl:{number}: " in text
        assert reason in text
    assert "and 1 more" in text


def test_what_is_no_source_is_refused(tokenizer, templates, tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="empty"):
        open_source(SourceConfig(source=str(tmp_path / "empty.jsonl")), tokenizer, templates, 0)
    with pytest.raises(FileNotFoundError, match="no file of demonstrations"):
        open_source(SourceConfig(source=str(tmp_path / "none.jsonl")), tokenizer, templates, 0)
    with pytest.raises(ValueError, match="weight is 0"):
        SourceConfig(weight=0)
    with pytest.raises(ValueError, match="noise is set for mine, but only the world"):
        SourceConfig(source="mine", noise=Noise(step=0.5))


def test_critique_rows_teach_a_critique_of_one_response_without_a_score(tokenizer, templates):
    """The response is one of the item's, and clean critiques tell what it is and is not."""
    rows = open_source(SourceConfig("critiques"), tokenizer, templates, seed=5)
    for index in range(200):
        item = World(seed=5).item(index)
        prompt, learned = halves(tokenizer, rows[index])
        # A prompt ends where its text does: of blanks at its end nothing is left.
        shown = [
            r for r in item.responses if f"\n[1] {r.text}".rstrip() + "<end_of_turn>" in prompt
        ]
        assert shown
        assert prompt.startswith(f"<bos><start_of_turn>user\n{item.query}\n[1]")
        assert "[2]" not in prompt
        assert "boxed" not in learned
        assert learned.startswith("Specific Criteria: ")
        right = shown[0].answer == item.answer
        assert ("nothing to judge" in learned) == (shown[0].answer == "")
        if "accuracy" in learned and shown[0].answer:
            assert learned.rpartition(" against ")[2].count("right") == right


def test_noise_reaches_the_critiques(tokenizer, templates):
    noisy = SourceConfig("critiques", noise=Noise(step=1.0))
    clean, wrong = (
        open_source(source, tokenizer, templates, seed=5)
        for source in (SourceConfig("critiques"), noisy)
    )
    differ = [halves(tokenizer, clean[i]) != halves(tokenizer, wrong[i]) for i in range(20)]
    assert all(differ)
    assert halves(tokenizer, clean[3])[0] == halves(tokenizer, wrong[3])[0]
