"""What experiments are made of: figures and files are the same bytes for the same numbers."""

import json

import pytest

from grm_jax.evals.experiments.ablations import ITEMS
from grm_jax.evals.experiments.figures import Figure, Panel, Series, draw_png, draw_svg, short
from grm_jax.evals.experiments.findings import Findings, grid, shown, write_findings
from grm_jax.evals.experiments.measure import doublings, measure
from grm_jax.evals.intervals import Interval
from grm_jax.evals.scoring import Vote

HOSTILE = "<script>alert(1)</script> | `x`"


def figure(height=70.0):
    line = Series("ours", {1.0: Interval(60, 55, 66), 8.0: Interval(height, 65, 74)}, 1)
    theirs = Series.plain("theirs", {1.0: 50.0, 32.0: 52.0}, 2, dashed=True)
    words = Series("by word", {0.0: Interval(1, 0, 2), 1.0: Interval(3, 2, 4)}, 0)
    return Figure(
        "made-up",
        "A figure",
        (
            Panel("by k", "k", "%", (line, theirs)),
            Panel("by size", "parameters", "%", (line,), ticks=False),
            Panel("by word", "", "%", (words,), ("one", "two")),
        ),
    )


def findings():
    table = grid(f"Table of {HOSTILE}", ["name", "value"], [[HOSTILE, "1.0"]])
    return Findings("made-up", "Made up", ("A sentence.",), (table,), (figure(),), {"a": [1]})


def test_a_figure_follows_from_its_numbers_alone(tmp_path):
    draw_png(figure(), tmp_path / "a.png")
    draw_png(figure(), tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert draw_svg(figure()) == draw_svg(figure())
    assert draw_svg(figure()) != draw_svg(figure(71.0))


def test_a_figure_tells_its_ends_in_words():
    svg = draw_svg(figure())
    assert "ours 60.0 at 1, 70.0 at 8; theirs 50.0 at 1, 52.0 at 32" in svg
    assert "by word 1.0 at one, 3.0 at two" in svg
    assert "mathdefault" not in svg


def test_files_of_an_experiment(tmp_path):
    page = write_findings(findings(), tmp_path / "a").read_text()
    write_findings(findings(), tmp_path / "b")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["data.json", "index.html", "made-up.png", "made-up.svg", "table.md"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert json.loads((tmp_path / "a" / "data.json").read_text()) == {"a": [1]}
    assert page.count("<svg") == 1
    assert "<script" not in page
    assert (
        r"| <script>alert(1)</script> \| `x` | 1.0 |" in (tmp_path / "a" / "table.md").read_text()
    )


def test_a_row_of_another_width_is_refused():
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        grid("caption", ["a", "b"], [["1"]])


def test_numbers_as_they_are_shown():
    assert shown(Interval(71.04, 69.96, 72.0)) == "71.0 [70.0, 72.0]"
    assert shown(Interval(-0.01, -1.0, 1.25), sign=True) == "+0.0 [-1.0, +1.2]"
    assert shown(Interval(float("nan"), float("nan"), float("nan"))) == "–"
    assert [short(x) for x in (570_496, 27e9, 1.5e6, 20)] == ["570K", "27B", "1.5M", "20"]
    assert [doublings(k) for k in (1, 6, 8)] == [[1], [1, 2, 4, 6], [1, 2, 4, 8]]


def test_what_is_measured_by_hand(tmp_path, write_samples):
    """Two items of two samples: right and wrong, right and unreadable."""
    path = write_samples(tmp_path / "s.jsonl", [[(9, None), (1, None)], [(9, None), (None, None)]])
    found = measure("ours", ITEMS, path, [Vote(1), Vote(2), Vote(2, guided=True)])
    assert found.value(Vote(1)).value == pytest.approx(50.0)
    # (9 + 1, 5 + 5) is a tie: half; with one unreadable sample the other one decides.
    assert found.value(Vote(2)).value == pytest.approx(75.0)
    assert list(found.cells) == [Vote(1), Vote(2)]  # no meta scores: nothing is guided
    assert not found.rated
    assert found.tokens == 11
    assert found.gain(Vote(2), found, Vote(1)).value == pytest.approx(25.0)
    votes = found.to_json()["votes"]
    assert [(v["k"], v["cells"]["accuracy"]["value"]) for v in votes] == [(1, 50.0), (2, 75.0)]
