"""What the bundled models make of responses in which there is nothing to judge."""

from dataclasses import replace

import pytest

from grm_jax import Example, Judge
from grm_jax.data.synthetic import make_item
from grm_jax.text.degenerate import degeneracy


def spoiled(count: int) -> list[tuple[Example, int]]:
    """Held-out items in which one response, never the best, is now nothing; and its index."""
    found: list[tuple[Example, int]] = []
    number = 0
    while len(found) < count:
        example = make_item(9, "heldout", number).example
        number += 1
        if example.n < 2 or any(map(degeneracy, example.responses)):
            continue
        index = (example.label + 1) % example.n  # type: ignore[operator]
        responses = list(example.responses)
        responses[index] = ("", "   ", "\u200b", "\n\n", "\0\x1b")[number % 5]
        found.append((replace(example, responses=tuple(responses), id=str(number)), index))
    return found


@pytest.mark.parametrize("meta_rm", [None, pytest.param("tiny-meta", marks=pytest.mark.slow)])
def test_nothing_is_never_the_best_and_all_but_always_the_worst(meta_rm: str | None) -> None:
    rows = spoiled(36)
    judge = Judge.load("tiny", meta_rm=meta_rm, slots=64)
    verdicts = {verdict.id: verdict for verdict in judge.judge_all([e for e, _ in rows], k=4)}
    lowest = 0
    for example, index in rows:
        verdict = verdicts[example.id]
        assert index not in verdict.tied
        assert list(verdict.degenerate) == [index]
        lowest += verdict.ranking[-1] == index
    assert lowest >= 32
