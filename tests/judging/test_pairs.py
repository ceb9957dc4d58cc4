"""Pair input: wins of all pairs, a tie half; refusals stay with their own, nothing piles up."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from grm_jax import Example
from grm_jax.judging.judgment import Judgment, Refusal, Sampled
from grm_jax.judging.pairs import PairInput, take
from grm_jax.judging.voting import vote


class ByWorth:
    """Scores a response by its number; judges in windows of five, the last come first.

    A response "?" cannot be read, and "!" cannot be judged.
    """

    on_devices = False

    def __init__(self) -> None:
        self.asked: list[Example] = []

    def sample_all(self, examples: Iterable[Example], k: int) -> Iterator[Sampled | Refusal]:
        stream = iter(examples)
        while window := list(islice(stream, 5)):
            self.asked += window
            yield from (self._judge(e, k) for e in reversed(window))

    def _judge(self, example: Example, k: int) -> Sampled | Refusal:
        if "!" in example.responses:
            return Refusal(example.id, "too long")
        read = "?" not in example.responses
        scores = tuple(map(int, example.responses)) if read else None
        order = tuple(reversed(range(example.n)))
        text = " over ".join(example.responses)
        return Sampled(
            example,
            tuple(
                Judgment(
                    i, order, "p", "c", scores, None if read else "no_box", text, 10, -1.0,
                    counted=read,
                )
                for i in range(k)
            ),
        )  # fmt: skip


def judged(*examples: Example, k: int = 2) -> dict[str, Sampled | Refusal]:
    found = list(PairInput(ByWorth()).sample_all(examples, k))
    named = {r.id if isinstance(r, Refusal) else r.example.id: r for r in found}
    assert len(named) == len(found) == len(examples)
    return named


@pytest.mark.parametrize(
    ("responses", "wins"),
    [
        (["3", "9", "5"], (0, 2, 1)),
        (["7", "7", "1", "7"], (2, 2, 0, 2)),
        (["4", "4", "4"], (1, 1, 1)),
        (["3", "?", "5"], (0.5, 1, 1.5)),  # what cannot be read is a tie
    ],
)
def test_a_response_scores_its_wins_and_half_its_ties(responses, wins) -> None:
    result = judged(Example("q", responses, id="a"))["a"]
    assert isinstance(result, Sampled)
    assert result.example.responses == tuple(responses)
    assert [j.scores for j in result.judgments] == [wins, wins]
    assert [j.sample for j in result.judgments] == [0, 1]
    assert sum(wins) == len(responses) * (len(responses) - 1) / 2


def test_nothing_read_is_nothing_scored() -> None:
    (judgment, _) = judged(Example("q", ["?", "?", "?"], id="a"))["a"].judgments  # type: ignore[union-attr]
    assert (judgment.scores, judgment.reason, judgment.counted) == (None, "no_box", False)


def test_one_or_two_responses_are_judged_as_they_stand() -> None:
    source = ByWorth()
    two, one = Example("q", ["3", "9"], id="b"), Example("q", ["4"], id="c")
    found = {r.example.id: r for r in PairInput(source).sample_all([two, one], 1)}  # type: ignore[union-attr]
    assert source.asked == [two, one]
    assert [found[name].judgments[0].scores for name in "bc"] == [(3, 9), (4,)]


def test_the_pairs_texts_are_all_there_under_their_numbers() -> None:
    judgment = judged(Example("q", ["3", "9", "5"], id="a"))["a"].judgments[0]  # type: ignore[union-attr]
    # The fake judge saw every pair in the opposite order.
    assert judgment.text == (
        "[Responses 2 and 1]\n3 over 9\n\n[Responses 3 and 1]\n3 over 5\n\n"
        "[Responses 3 and 2]\n9 over 5"
    )
    assert (judgment.tokens, judgment.logprob, judgment.order) == (30, -3.0, (0, 1, 2))


def test_a_refused_pair_refuses_its_example_alone() -> None:
    bad, good = Example("q", ["3", "!", "5"], id="a"), Example("q", ["3", "4", "5"], id="b")
    found = judged(bad, good)
    assert isinstance(found["a"], Refusal)
    assert found["a"].error in {
        "responses 1 and 2: too long",
        "responses 2 and 3: too long",
    }
    assert isinstance(found["b"], Sampled)


def test_a_passing_reason_of_a_pair_is_one_of_its_example() -> None:
    class Down:
        on_devices = False

        def sample_all(self, examples, k):
            return (Refusal(example.id, "no connection", passing=True) for example in examples)

    (found,) = PairInput(Down()).sample_all([Example("q", ["3", "4", "5"], id="a")], 1)
    assert isinstance(found, Refusal)
    assert found.passing


def test_pairs_keep_what_is_known_of_them() -> None:
    example = Example(
        "q", ["1", "2", "3"], id="a", label=2, scores=[1, 2, 3], reference="r", principles="p"
    )
    pair = take(example, (2, 0))
    assert (pair.responses, pair.label, pair.scores) == (("3", "1"), 0, (3, 1))
    assert (pair.reference, pair.principles) == ("r", "p")
    assert take(example, (0, 1)).label is None
    assert len({example.id, pair.id, take(example, (0, 1)).id}) == 3


def test_a_verdict_is_the_sum_of_wins() -> None:
    judgments = judged(Example("q", ["3", "9", "5"], id="a"), k=4)["a"].judgments  # type: ignore[union-attr]
    verdict = vote("a", judgments, 3, np.random.default_rng(0))
    assert verdict is not None
    assert (verdict.scores, verdict.best) == ((0, 8, 4), 1)


def test_a_long_stream_is_read_as_it_is_needed() -> None:
    read = 0

    def examples() -> Iterator[Example]:
        nonlocal read
        for i in range(500):
            read += 1
            yield Example(
                "q", [str(i), "3", "!" if i % 7 == 0 else "5", "4"][: 2 + i % 3], id=str(i)
            )

    done, ahead = 0, 0
    for _ in PairInput(ByWorth()).sample_all(examples(), 1):
        done += 1
        ahead = max(ahead, read - done)
    assert done == read == 500
    assert ahead <= 6, "five in the source's window, and one that is cut"


def test_sample_s_of_an_example_is_made_of_sample_s_of_its_pairs():
    class Wavering(ByWorth):
        """Is right in even samples, and the other way round in odd ones."""

        def _judge(self, example: Example, k: int) -> Sampled | Refusal:
            found = super()._judge(example, k)
            assert isinstance(found, Sampled)
            return replace(
                found,
                judgments=tuple(
                    replace(j, scores=j.scores[::-1]) if j.scores and j.sample % 2 else j
                    for j in found.judgments
                ),
            )

    (found,) = PairInput(Wavering()).sample_all([Example("q", ["1", "2", "3"], "x")], 4)
    assert isinstance(found, Sampled)
    assert [j.scores for j in found.judgments] == [(0, 1, 2), (2, 1, 0)] * 2
    assert [j.sample for j in found.judgments] == [0, 1, 2, 3]
