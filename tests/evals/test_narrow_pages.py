"""Pages on a telephone: what is too wide is scrolled in its frame, and no page is wider than it."""

import os
import re
from pathlib import Path

import pytest

from grm_jax.aot.page import page as aot_page
from grm_jax.evals import comparison
from grm_jax.evals.compare_page import write_page as write_comparison
from grm_jax.evals.comparison import compare
from grm_jax.evals.eval_page import write_page as write_evaluation
from grm_jax.evals.experiments.findings import Findings, Grid, write_findings
from grm_jax.evals.report import write_report
from grm_jax.evals.spct_page import write_page as write_spct
from grm_jax.judging.judgment import Refusal
from tests.aot.test_matrix import row, spct
from tests.evals.judged import RIGHT, TIED, WRONG, benchmark, example, judged, save
from tests.evals.test_spct_page import make_run

LONG = "a" * 300  # a path, an address or a number that has no place to break
NAMES = ("evaluation", "comparison", "spct", "experiment", "aot")


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """Every page that is written, with a long word wherever one may stand."""
    tmp = tmp_path_factory.mktemp("pages")
    rows = [example(f"{i}{LONG}", LONG if i % 2 else "A") for i in range(4)]
    whole, folders = benchmark(rows), []
    for name, other in (("a", WRONG), ("b", TIED)):
        judgments = [judged(one, *[RIGHT, other] * 16, meta=(1.0,) * 32) for one in rows]
        refusal = Refusal(LONG, LONG, row={"subset": "A", "unit": "u", "digest": "0", "label": 0})
        save(tmp / name / "samples.jsonl", [*judgments, refusal])
        settings = {"model": f"{LONG}/{name}", "meta_rm": LONG}
        write_report(whole, tmp / name, settings=settings, resamples=5)
        folders.append(tmp / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "find", lambda name: whole)
        found = compare(*folders)
    grid = Grid(LONG, [f"{LONG}{i}" for i in range(9)], [[LONG] * 9])
    failed = {"command": f"grm aot --program {LONG}", "error": LONG}
    large = row("27b", "v5e:2x2", "rft-step", fits=False) | {"peak": None, "reason": LONG}
    aot = tmp / "aot.html"
    aot.write_text(aot_page([*spct("2b", "v5e:4x4"), large, failed]))
    return {
        "evaluation": write_evaluation(folders[0]),
        "comparison": write_comparison(tmp / "compare.html", found, *folders),
        "spct": write_spct(make_run(tmp / LONG[:200])),
        "experiment": write_findings(Findings("e", LONG, (LONG,), (grid,), ()), tmp / "e"),
        "aot": aot,
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_table_is_in_a_frame_that_scrolls(name, pages) -> None:
    text = pages[name].read_text()
    frames = re.findall(r'<div class="wide" role="region" aria-label="[^"]+" tabindex="0">', text)
    assert len(frames) == text.count("<table") > 0
    assert len(re.findall(r'tabindex="0">\s*<table', text)) == len(frames)
    assert ".wide { overflow-x: auto;" in text
    assert "main { overflow-wrap: anywhere; }" in text


def test_in_a_browser_no_page_is_wider_than_400_pixels(pages) -> None:
    """GRM_PICTURES is a folder for pictures of them, see `tests/serve/test_page.py`."""
    pytest.importorskip("httpx")
    from tests.serve.browser import browser

    with browser() as window:
        window.size(400, 2000)
        for name, path in pages.items():
            window.open(path.as_uri())
            window.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
            if pictures := os.environ.get("GRM_PICTURES"):
                window.picture(Path(pictures, f"narrow-{name}.png"))
            assert window.run("return document.documentElement.scrollWidth") <= 400, name
            # Something is wider, and is reached by scrolling its frame; a row keeps its name.
            wide = (
                "[...document.querySelectorAll('.wide')].filter(w => w.scrollWidth > w.clientWidth)"
            )
            assert window.run(f"return {wide}.length") > 0, name
            left = window.run(
                f"const w = {wide}[0]; w.scrollLeft = 200;"
                "const head = w.querySelector('th[scope=row]').getBoundingClientRect();"
                "return [w.scrollLeft, head.left, head.width]"
            )
            assert left[0] > 0, name
            assert left[1] >= 0, name
            assert left[2] <= 200, name
        # The same eyes see a page that is too wide: this one without the rule.
        window.run("document.querySelector('main').style.overflowWrap = 'normal'")
        assert window.run("return document.documentElement.scrollWidth") > 400
