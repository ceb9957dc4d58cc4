"""How far a command is, where there is no terminal: whole lines, seldom."""

import sys

import pytest

from grm_jax import progress as module
from grm_jax.progress import counted, progress


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


def test_a_line_every_half_minute_with_the_total_and_the_speed_since_the_last(clock, capsys):
    with progress("RewardBench", "item", 100) as advance:
        advance(20)  # of an earlier run, in no time
        for _ in range(40):
            clock[0] += 2.0
            advance(1)
    lines = capsys.readouterr().err.splitlines()
    # After 30 and 60 seconds, and where it ended; the first speed still has the 20.
    assert [line.split(" [")[0] for line in lines] == [
        "RewardBench:  35% 35/100",
        "RewardBench:  50% 50/100",
        "RewardBench:  60% 60/100",
    ]
    assert "01:00<01:40" in lines[1]
    assert "2.00s/item" in lines[1]


def test_without_a_total_it_counts(clock, capsys):
    with progress("judged", "row") as advance:
        clock[0] += 31
        advance(62)
    assert capsys.readouterr().err == "judged: 62row [00:31,  2.00row/s]\n"


def test_what_is_over_at_once_and_what_others_print_is_silent(clock, capsys):
    assert list(counted([1, 2, 3], "matching", "problem")) == [1, 2, 3]
    with progress("judged", "row", 3, shown=False) as advance:
        clock[0] += 100
        advance(3)
    assert capsys.readouterr().err == ""


def test_a_stop_is_told_with_how_far_it_was(clock, capsys):
    def stopped() -> None:
        with progress("judged", "row", 4) as advance:
            for _ in range(3):
                clock[0] += 20
                advance(1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert [line[:15] for line in capsys.readouterr().err.splitlines()] == [
        "judged:  50% 2/",
        "judged:  75% 3/",
    ]


def test_a_terminal_has_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress("judged", "row", 4) as advance:
        advance(3)
    told = capsys.readouterr().err
    assert "judged" in told
    assert "/4" in told
    assert told.endswith("\r")  # and nothing of it is left
