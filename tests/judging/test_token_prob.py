"""TokenProb: a score is the probability of a number where the judge wrote one, to the digit."""

import math
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grm_jax import Example, Judge
from grm_jax.judging.judgment import Judgment, Refusal, Sampled
from grm_jax.judging.token_prob import softmax, weighed
from grm_jax.sampling.request import Completion, Request
from grm_jax.sampling.size import EngineSize
from grm_jax.text.parse import choice_place


class Says:
    """A sampler that has every sample say the same, in these very tokens."""

    seed, size = 0, EngineSize()

    def __init__(self, judge: Judge, text: str, by_letter: bool = False):
        encode = judge.folder.tokenizer.encode
        pieces = text if by_letter else [text]
        self.tokens = [i for piece in pieces for i in encode(piece)]
        self.tokens.append(judge.folder.tokenizer.end_of_turn_id)
        self.drawn: list[Completion] = []

    def check_length(self, tokens: int) -> None:
        pass

    def __call__(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for request in requests:
            for sample in request.samples:
                zeros = np.zeros(len(self.tokens))
                said = Completion(request, sample, np.array(self.tokens), zeros, True)
                self.drawn.append(said)
                yield said


@pytest.fixture(scope="module")
def loaded() -> Judge:
    return Judge.load("tiny", kind="token-prob", slots=4)


def saying(loaded: Judge, text: str, by_letter: bool = False) -> tuple[Judge, Says]:
    judge = Judge(loaded.folder, kind="token-prob", slots=4)
    script = Says(judge, text, by_letter)
    judge.sampler = script  # type: ignore[assignment]
    return judge, script


def judged(judge: Judge, *examples: Example, k: int = 3) -> dict[str, Sampled | Refusal]:
    found = judge.sample_all(examples, k)
    return {r.id if isinstance(r, Refusal) else r.example.id: r for r in found}


def by_hand(judge: Judge, completion: Completion, place: int, n: int) -> np.ndarray:
    """The softmax over all tokens after the prompt and `place` tokens, cut to n numbers."""
    model, params = judge.folder.model, judge.folder.params
    ids = jnp.array([[*completion.request.tokens, *completion.tokens.tolist()]])
    hidden = jax.jit(model.hidden)(params, ids, jnp.arange(ids.shape[1])[None])
    logits = model.logits(params, hidden[0, len(completion.request.tokens) + place - 1])
    numbers = [judge.folder.tokenizer.encode(str(i))[0] for i in range(1, n + 1)]
    shares = np.asarray(jax.nn.softmax(logits))[numbers]
    return shares / shares.sum()


TEXT = "Specific Criteria: a\nAnalysis: [1] says \\boxed{1}, 2 more\nChoice: \\boxed{2}"
THREE = Example("What is 61+21?", ["81", "82", "It must be 83"], id="three")


@pytest.mark.parametrize("by_letter", [False, True], ids=["as encoded", "letter by letter"])
def test_scores_are_the_probabilities_of_the_numbers_at_their_place(loaded, by_letter) -> None:
    """Of the very tokens that were drawn, which need not be those of the text encoded anew."""
    judge, script = saying(loaded, TEXT, by_letter)
    result = judged(judge, THREE)["three"]
    assert isinstance(result, Sampled)
    (two,) = judge.folder.tokenizer.encode("2")
    place = max(i for i, token in enumerate(script.tokens) if token == two)
    for judgment in result.judgments:
        (said,) = (c for c in script.drawn if c.sample == judgment.sample)
        shown = by_hand(judge, said, place, 3)
        assert judgment.scores is not None
        assert sum(judgment.scores) == pytest.approx(1)
        np.testing.assert_allclose(
            [judgment.scores[i] for i in judgment.order], shown, rtol=1e-4, atol=1e-7
        )
    assert len({judgment.scores for judgment in result.judgments}) > 1


def test_a_score_has_the_same_bits_whatever_else_is_judged(loaded) -> None:
    judge, _ = saying(loaded, TEXT)
    alone = judged(judge, THREE)["three"]
    others = [Example(f"What is 1{i}+21?", ["31", "32"], id=str(i)) for i in range(5)]
    assert judged(judge, *others, THREE)["three"] == alone


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Choice: \\boxed{02}", "no_index_token"),
        ("Choice: \\boxed{4}", "out_of_range"),
        ("Choice: 2", "no_box"),
    ],
)
def test_what_has_no_number_in_one_token_has_no_scores(loaded, text, reason) -> None:
    (judgment, *_) = judged(saying(loaded, text)[0], THREE)["three"].judgments  # type: ignore[union-attr]
    assert (judgment.scores, judgment.reason, judgment.counted) == (None, reason, False)


def test_spaces_around_the_number_change_nothing_but_the_text_before_it(loaded) -> None:
    (judgment, *_) = judged(saying(loaded, "Choice: \\boxed{ 2 }")[0], THREE)["three"].judgments  # type: ignore[union-attr]
    assert judgment.scores is not None


def test_more_than_nine_responses_are_refused(loaded) -> None:
    ten = Example("q", [str(i) for i in range(10)], id="ten")
    refusal = judged(saying(loaded, TEXT)[0], ten)["ten"]
    assert isinstance(refusal, Refusal)
    assert "there are 10 responses" in refusal.error
    assert "in pairs" in refusal.error


def test_a_vote_is_weighed_in_the_order_of_the_example() -> None:
    vote = Judgment(0, (2, 0, 1), "", "", (0, 0, 1), None, "", 1, 0.0)
    assert weighed(vote, (0.7, 0.2, 0.1)).scores == (0.2, 0.1, 0.7)


@pytest.mark.parametrize("text", [TEXT, "\\boxed{1} \\boxed {  3}", "Choice: \\boxed\n{\n1}"])
def test_the_place_of_a_choice_is_where_its_number_begins(text) -> None:
    assert text[choice_place(text) :].rstrip() in ("1}", "2}", "3}")


def test_shares_of_logits_of_any_size():
    assert softmax([1000.0, 1000.0, -math.inf]) == (0.5, 0.5, 0.0)
    assert softmax([-1000.0, -1000.0 + math.log(3)]) == pytest.approx((0.25, 0.75))
