"""Readings in rows: each once, in as few tokens as there can be, whatever else there is."""

from itertools import combinations

import numpy as np
import pytest

from grm_jax.bucket import bucket
from grm_jax.judging.grouping import GROUPS, Reading, Shape, fill, rows

LONGEST = 500


def readings(prompt: int, completions: list[int], name: int = 1) -> list[Reading]:
    """Of these lengths; the ids say whose they are."""
    front = (name,) * prompt
    return [Reading(front, (100 * name + i,) * n) for i, n in enumerate(completions)]


@pytest.mark.parametrize(
    ("prompt", "completions", "shapes"),
    [
        (20, [9], [(31, 1, 1)]),  # by itself: its last place is left open
        (20, [12], [(47, 1, 1)]),
        (500, [0], [(500, 1, 1)]),
        (200, [20, 31], [(256, 2, 32)]),
        (200, [20, 32], [(256, 2, 64)]),
        (200, [20, 20, 20], [(256, 4, 32)]),  # a place is left empty: less than the prompt again
        (200, [20] * 5, [(255, 1, 1), (256, 4, 32)]),
        (200, [20] * 7, [(256, 4, 32)] * 2),
        (200, [10, 20, 250], [(256, 2, 32), (500, 1, 1)]),  # the long one would widen the others
        (9, [70, 80], [(95, 1, 1)] * 2),  # a short prompt is not worth a row of two
    ],
)
def test_a_row_holds_what_takes_fewer_tokens_together(prompt, completions, shapes):
    found = list(rows(readings(prompt, completions), LONGEST, GROUPS))
    assert sorted(row.shape for row in found) == sorted(Shape(*shape) for shape in shapes)


def test_each_reading_stands_in_one_row_whatever_else_there_is():
    several = [
        *readings(100, [5, 40, 41, 6, 90, 7, 8], 1),
        *readings(60, [30, 30], 2),
        *readings(33, [12], 3),
    ]
    found = list(rows(several, LONGEST, GROUPS))
    assert sorted(one for row in found for one in row.readings) == sorted(several)
    assert all(len({one.prompt for one in row.readings}) == 1 for row in found)
    for name in (1, 2, 3):
        own = [one for one in several if one.prompt[0] == name]
        alone = list(rows(own, LONGEST, GROUPS))
        assert alone == [row for row in found if row.readings[0].prompt[0] == name]


def test_no_other_cut_takes_fewer_tokens():
    """Of all ways to cut five readings, sorted by length, into neighbours."""
    rng = np.random.default_rng(0)

    def doubled(length):
        return next(2**n for n in range(5, 12) if 2**n >= length)

    def tokens(part):
        """Of a row for all of these."""
        if len(part) == 1:
            return bucket(part[0].length + 1, LONGEST + 1)
        group = {2: 2, 3: 4, 4: 4}.get(len(part), np.inf)
        return doubled(len(part[0].prompt)) + group * doubled(len(part[-1].completion) + 1)

    for _ in range(20):
        own = readings(int(rng.integers(20, 200)), rng.integers(1, 150, 5).tolist())
        taken = sum(row.shape.tokens for row in rows(own, LONGEST, GROUPS))
        own.sort(key=lambda one: one.length)
        ways = [
            sum(tokens(own[i:j]) for i, j in zip((0, *cuts), (*cuts, 5), strict=True))
            for n in range(5)
            for cuts in combinations(range(1, 5), n)
        ]
        assert taken == min(ways)


def test_arrays_hold_prompts_at_their_end_and_completions_at_their_start():
    (row,) = rows(readings(62, [20, 2, 31]), LONGEST, GROUPS)
    grouped = fill(row.shape, [row], 2)
    assert row.shape == (64, 4, 32)
    assert [len(one.completion) for one in row.readings] == [2, 20, 31]
    assert grouped.prompts[0].tolist() == [0] * 2 + [1] * 62
    assert grouped.prompt_positions[0].tolist() == [-1] * 2 + list(range(62))
    for number, one in enumerate(row.readings):
        n = len(one.completion)
        assert grouped.tokens[0, number, :n].tolist() == list(one.completion)
        assert grouped.positions[0, number].tolist() == [*range(62, 62 + n), *[-1] * (32 - n)]
    assert (grouped.positions[0, 3] == -1).all()
    assert (grouped.positions[1] == -1).all()
    assert grouped.prompt_positions[1].tolist() == [-1] * 63 + [0]
