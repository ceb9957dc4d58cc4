"""The table of judge kinds: its types name the same kinds, and every template that it asks with."""

from dataclasses import fields
from typing import get_args

from grm_jax.judging.kinds import KINDS, Kind, Learns, Writes
from grm_jax.text.prompts import Templates


def test_the_types_are_of_the_kinds_in_the_table() -> None:
    assert get_args(Kind) == tuple(KINDS)
    assert get_args(Writes) == tuple(name for name, kind in KINDS.items() if kind.head == "lm")
    assert set(get_args(Learns)) < set(get_args(Writes))


def test_a_kind_asks_with_a_template_and_what_is_learned_is_called_like_its_own() -> None:
    tasks = {field.name for field in fields(Templates)}
    assert {kind.task for kind in KINDS.values()} <= tasks
    assert all(KINDS[name].task == name for name in get_args(Learns))


def test_a_server_only_writes() -> None:
    assert all(kind.head == "lm" for kind in KINDS.values() if kind.endpoint or kind.odds)
