"""What a model thinks before it answers is not read for scores; what does not end has none."""

from __future__ import annotations

import numpy as np
import pytest

from grm_jax.judging.asking import read_completion, read_judgment
from grm_jax.sampling.request import Completion, Request
from grm_jax.text.parse import choice_place
from grm_jax.text.prompts import load_templates
from grm_jax.text.reasoning import answer_start
from grm_jax.text.tokenizer import Tokenizer
from tests.text.families import ALL, write_words

ANSWER = "Specific Criteria: c\nAnalysis: a\nScores: \\boxed{7, 3}"
DRAFT = "Analysis: draft\nScores: \\boxed{1, 9}"
TEMPLATES = load_templates()


@pytest.fixture(scope="module", params=["qwen3", "thinking", "smollm2"])
def tokenizer(request, tmp_path_factory) -> Tokenizer:
    """`<think>` is a token; it is, and the template begins with it; it is none."""
    folder = tmp_path_factory.mktemp(request.param)
    return Tokenizer.load(write_words(ALL[request.param], folder))


def read(tokenizer: Tokenizer, *pieces: str | int, finished: bool = True):
    """The judgment in these texts and tokens, as the sampler gives it."""
    ids = [
        i
        for piece in pieces
        for i in ([piece] if isinstance(piece, int) else tokenizer.encode(piece))
    ]
    ids += [tokenizer.end_of_turn_id] * finished
    completion = Completion(
        Request([1], 0, (0,), None), 0, np.array(ids), np.zeros(len(ids)), finished
    )
    return read_completion(completion, tokenizer, TEMPLATES.grm, (0, 1))


def marks(tokenizer: Tokenizer) -> tuple[list[str | int], str | int]:
    """What opens reasoning that the model writes, and what closes it."""
    if tokenizer.reasoning is None:
        return ["<think>"], "</think>"
    opening, closing = tokenizer.reasoning
    return ([] if tokenizer.opened else [opening, "\n"]), closing


def test_scores_are_those_after_the_reasoning(tokenizer) -> None:
    opening, closing = marks(tokenizer)
    judgment = read(tokenizer, *opening, DRAFT, "\n", closing, "\n\n", ANSWER)
    assert judgment.scores == (7, 3)
    assert (judgment.principles, judgment.critique) == ("c", "a")
    assert judgment.text.startswith("<think>")
    assert DRAFT in judgment.text
    # A draft is no answer.
    assert read(tokenizer, *opening, DRAFT, closing, "\n\nNo scores.").reason == "no_box"


def test_reasoning_that_does_not_end_has_no_scores(tokenizer) -> None:
    opening, _ = marks(tokenizer)
    assert read(tokenizer, *opening, DRAFT).reason == "unfinished_reasoning"
    cut_off = read(tokenizer, *opening, DRAFT, finished=False)
    assert (cut_off.scores, cut_off.reason) == (None, "truncated")
    assert not cut_off.counted


def test_what_a_response_says_ends_no_reasoning(tokenizer) -> None:
    """Where the end is a token, its letters are only letters."""
    if tokenizer.reasoning is None:
        pytest.skip("its vocabulary has no such token")
    opening, closing = marks(tokenizer)
    quoted = [*opening, "The response says </think>\n\n", DRAFT]
    assert read(tokenizer, *quoted).reason == "unfinished_reasoning"
    assert read(tokenizer, *quoted, finished=False).reason == "truncated"
    assert read(tokenizer, *quoted, closing, ANSWER).scores == (7, 3)
    assert read(tokenizer, *quoted, closing, "Nothing.").scores is None
    assert read(tokenizer, *opening, "x", closing, ANSWER, "\n</think>").scores == (7, 3)


def test_a_judge_that_does_not_reason_is_read_as_it_was(tokenizer) -> None:
    if tokenizer.opened:
        return
    text = ANSWER.replace("Analysis: a", "Analysis: it says </think> and <think>.")
    judgment = read(tokenizer, text)
    assert (judgment.principles, judgment.scores) == ("c", (7, 3))
    assert judgment.critique == "it says </think> and <think>."


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("", 0),
        (ANSWER, 0),
        ("a </think> b", 0),
        ("<think>", None),
        ("\n <think>a", None),
        ("<think>a</think>b", 16),
        (" <think></think> </think>", 16),
    ],
)
def test_where_an_answer_begins(text: str, start: int | None) -> None:
    assert answer_start(text) == start


def test_the_chosen_number_is_that_of_the_answer() -> None:
    text = "<think>Choice: \\boxed{1}</think>\nChoice: \\boxed{ 2}"
    start = answer_start(text)
    assert start is not None
    assert text[choice_place(text, start=start) :] == "2}"
    order = (1, 0)
    judgment = read_judgment(text, TEMPLATES.judge, sample=0, order=order, tokens=9, start=start)
    assert judgment.scores == (1, 0)
