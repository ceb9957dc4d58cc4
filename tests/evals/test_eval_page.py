"""The pages of an evaluation and of a comparison, read as HTML and opened in a browser."""

import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from grm_jax.evals import compare_page, comparison
from grm_jax.evals.comparison import compare
from grm_jax.evals.eval_page import write_page
from grm_jax.evals.report import write_report
from grm_jax.judging.judgment import Refusal
from tests.evals.judged import NONE, RIGHT, TIED, WRONG, benchmark, example, judged, save

HOSTILE = "<script>alert(1)</script></details></div> {{ 7 * 7 }} \" onload='x' &amp;"
ROWS = [example(f"{i} {HOSTILE}", "AB"[i % 2]) for i in range(8)]
WHOLE = benchmark([*ROWS, example("never judged")])


def folder_of(tmp, right, who):
    """An evaluation in which these rows are right, number 6 tied, 7 unread and the rest wrong."""
    folder = tmp / who
    rows = [
        judged(row, *((RIGHT, WRONG) if i in right else (WRONG, RIGHT)), meta=(1.5, -1.5), text=who)
        for i, row in enumerate(ROWS)
    ]
    rows[6] = judged(ROWS[6], TIED, TIED, meta=(0.5, 0.0), text=who)
    rows[7] = judged(ROWS[7], NONE, NONE, text=f"{who} {HOSTILE}")
    save(folder / "samples.jsonl", [*rows, Refusal("bad", f"rows:9: {HOSTILE}")])
    save(folder / "greedy.jsonl", [judged(row, RIGHT) for row in ROWS])
    write_report(WHOLE, folder, settings={"model": who, "meta_rm": "meta"}, resamples=50)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("evaluations")
    return folder_of(tmp, {0, 1}, "former"), folder_of(tmp, {1, 2}, "latter")


@pytest.fixture(scope="module")
def pages(folders):
    """The page of the first evaluation, and that of the comparison."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "find", lambda name: WHOLE)
        found = compare(*folders)
    path = folders[1] / "compare.html"
    return write_page(folders[0]), compare_page.write_page(path, found, *folders)


def test_the_page_says_what_the_report_says(pages):
    page = pages[0].read_text()
    assert "<h1>Handmade (partial: 8 of 9 rows)</h1>" in page
    assert "A: 4 of 5" in page
    assert "former with meta: 8 rows, 2 samples of each. total: 31.2 with MetaRM@2." in page
    for told in ("AUC overall", "no_box 2", "1 rows could not be read", "grm_jax:"):
        assert told in page
    assert page.count("<svg") == 2  # the curve, and the meta RM's reliability
    label = re.search(r'aria-label="(total against the number of samples: [^"]*)"', page)
    assert label
    # Of eight rows MetaRM has two right, one tied, one unread.
    assert "Voting 43.8 % at k = 1" in label[1]
    assert "MetaRM 31.2 % at k = 2" in label[1]


def test_rows_of_every_verdict_are_shown_with_a_judgment_that_says_it(pages):
    section = pages[0].read_text().split('<h2 id="rows">')[1].split('<h2 id="config">')[0]
    found = re.findall(r'<summary><span class="(\w+)">', section)
    assert found == ["wrong"] * 4 + ["tied", "unread"] + ["right"] * 2
    # Sample 0 of a row that is wrong gives the wrong one 8, and the judge saw the good one second.
    first = section.split("<details>")[1]
    assert "former 0 of 2" in first
    assert first.index("bad 2") < first.index("good 2")
    assert "rated +1.50" in first


def test_rows_on_which_judges_differ_stand_side_by_side(pages):
    page = pages[1].read_text()
    assert "<h1>Handmade (partial: 8 of 9 rows)</h1>" in page
    rows = page.split("<details")[1:]
    assert len(rows) == 2
    # Row 2 became right, row 0 wrong.
    assert "wrong → right" in rows[0]
    assert rows[0].index("former 0 of 2") < rows[0].index("latter 0 of 2")
    assert "right → wrong" in rows[1]
    assert "former 0 of 0" in rows[1]
    # Scores stand in the order of the responses beneath them: the judge saw the good one second.
    shown = re.search(r'Response 1 <span class="score">(\d+)</span> · Response 2', rows[0])
    assert shown
    assert shown[1] == "8"
    assert rows[0].index("bad 2") < rows[0].index("good 2")


def test_what_was_written_is_text(pages):
    for path in pages:
        page = path.read_text()
        assert "<script" not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
        assert "{{ 7 * 7 }}" in page
        assert not re.search(r"<[^>]* onload=", page)
        bare = page.replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?://|@import|url\((?!#)", bare)


def test_same_folder_same_bytes(folders, pages):
    before = pages[0].read_bytes()
    assert write_page(folders[0]).read_bytes() == before


def test_single_responses_have_a_page_without_verdicts(tmp_path):
    """Such as ReaLMistake's rows: a row alone is neither right nor wrong."""
    row = replace(example("1"), responses=("alone",), label=1)
    single = replace(WHOLE, value=lambda row, totals, scalar: (float((totals or (0,))[0] > 5),))
    save(tmp_path / "samples.jsonl", [replace(judged(row, (7,)), example=row)])
    write_report(single, tmp_path, settings={"model": "m"}, resamples=5)
    page = write_page(tmp_path).read_text()
    assert '<h2 id="scores">' in page
    assert '<h2 id="rows">' not in page


@pytest.mark.parametrize("which", [0, 1])
def test_a_browser_opens_it_without_a_complaint(pages, tmp_path, which):
    """From a file, without network; the curve is drawn with a height."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs chromium")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    flags += [f"--user-data-dir={tmp_path}", "--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom"]

    def opened(path):
        run = subprocess.run(
            [browser, *flags, path.as_uri()],
            capture_output=True,
            text=True,
            timeout=250,
            check=True,
        )
        return run.stdout, [line for line in run.stderr.splitlines() if "CONSOLE" in line]

    dom, complaints = opened(pages[which])
    assert "Handmade (partial" in dom
    assert complaints == []
    assert dom.count("<svg") == (2, 0)[which]
    if which == 0:  # the same eyes see a complaint where there is one
        bad = tmp_path / "bad.html"
        bad.write_text(pages[0].read_text().replace("<main>", "<main><script>1</script>"))
        assert opened(bad)[1] != []
