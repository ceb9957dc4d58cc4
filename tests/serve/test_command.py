"""`grm serve`: its options, and what it refuses to do."""

import pytest

from grm_jax.cli import main
from grm_jax.cli.commands import OPTIONS
from grm_jax.cli.options import read_options


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--host", "0.0.0.0"], "GRM_TOKEN"),
        (["--cohort", "99"], "cohort is 99"),
        (["--cohort_wait", "soon"], "such as 2s, 500ms or 1m"),
        (["--k", "65"], "limits.k"),
        (["--limits.queue", "0"], "limits.queue is 0"),
        (["--k_meta", "2"], "--meta-rm"),
        (["--port", "70000"], "port is 70000"),
    ],
)
def test_what_cannot_be_served_is_said_at_once(options, says, capsys, monkeypatch) -> None:
    """Before a model is loaded; above all, nothing listens to the world without a token."""
    pytest.importorskip("fastapi")
    monkeypatch.delenv("GRM_TOKEN", raising=False)
    assert main(["serve", "--model", "/nowhere", *options]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--templates", "nemotron"], "probabilities of Yes"),
        (["--templates", "prometheus", "--cohort", "4"], "one response at a time"),
        (["--judge_kind", "token-prob"], "token-prob"),
    ],
)
def test_templates_that_cannot_be_served_are_refused_at_start_up(options, says, capsys) -> None:
    """In one sentence, and before anything is compiled; where it can be, before a model is read."""
    pytest.importorskip("fastapi")
    assert main(["serve", "--port", "0", *options]) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert said.out == ""


def test_options_are_spelled_as_they_are_typed() -> None:
    given = ["--cohort", "8", "--cohort_wait", "500ms", "--limits.prompt", "100"]
    command = read_options(OPTIONS["serve"], given, "serve")
    assert (command.cohort, command.cohort_wait, command.limits.prompt) == (8, "500ms", 100)
    assert not command.exposed
    assert command.served_name == "tiny"
