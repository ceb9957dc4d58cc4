"""Which judgments are learned from, by the paper's rules."""

import pytest

from grm_jax.judging.judgment import Judgment
from grm_jax.text.messages import Example
from grm_jax.train.rejection import reject


def judged(*all_scores):
    return tuple(
        Judgment(i, (0,), "", "", s, None if s else "no_box", "", 1, -1.0)
        for i, s in enumerate(all_scores)
    )


def outcomes(label, plain, hinted=(), n=2):
    example = Example("q", ["r"] * n, "x", label=label)
    found = list(reject(example, judged(*plain), judged(*hinted)))
    assert [t.hinted for t in found] == [False] * len(plain) + [True] * len(hinted)
    return [t.outcome for t in found]


RIGHT, WRONG, TIED = (9, 2), (2, 9), (5, 5)


@pytest.mark.parametrize(
    ("plain", "hinted", "wanted"),
    [
        ([RIGHT, WRONG, TIED], [RIGHT], ["chosen", "wrong", "tied", "chosen"]),
        ([RIGHT, RIGHT, None], [WRONG], ["chosen", "chosen", "unparsable", "wrong"]),
        ([RIGHT, RIGHT, RIGHT], [RIGHT], ["too_easy"] * 4),
        ([RIGHT, RIGHT, RIGHT], [WRONG], ["too_easy"] * 3 + ["wrong"]),
        ([WRONG, WRONG, WRONG], [RIGHT], ["wrong"] * 3 + ["chosen"]),  # what hints are for
        ([], [RIGHT], ["chosen"]),  # without plain ones nothing is known to be easy
    ],
)
def test_pairs(plain, hinted, wanted):
    assert outcomes(0, plain, hinted) == wanted


def test_more_responses():
    assert outcomes(2, [(1, 5, 9), (9, 5, 9), (9, 5, 1)], n=3) == ["chosen", "tied", "wrong"]
    assert outcomes(2, [(9, 9, 1)], n=3) == ["wrong"]  # a tie of others is no tie of the best


def test_single_responses_are_right_or_wrong_and_never_tied():
    assert outcomes(0, [(0,), (1,), None], n=1) == ["chosen", "wrong", "unparsable"]
    assert outcomes(1, [(1,), (1,)], [(0,)], n=1) == ["too_easy", "too_easy", "wrong"]
