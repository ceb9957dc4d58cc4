"""Two evaluations are compared only where they are of the same rows."""

import json
from dataclasses import replace

import pytest

from grm_jax.evals.comparison import pairs
from grm_jax.evals.report import ROWS, write_report
from grm_jax.evals.run import judge_benchmark
from tests.evals.judged import RIGHT, WRONG, Source, benchmark, example

DATA = [example(str(i)) for i in range(4)]


@pytest.fixture
def folders(tmp_path):
    """folders(rows, rows): the folders of two evaluations of these rows."""

    def make(*data):
        made = []
        for name, rows, scores in zip("ab", data, (RIGHT, WRONG), strict=True):
            judge_benchmark(benchmark(rows), Source(scores), 1, tmp_path / name)
            write_report(benchmark(rows), tmp_path / name, settings={}, resamples=5)
            made.append(tmp_path / name)
        return made

    return make


def test_the_same_rows_stand_side_by_side(folders):
    found = list(pairs(*folders(DATA, DATA)))
    assert [(a["id"], a["verdict"], b["verdict"]) for a, b in found] == [
        (str(i), "right", "wrong") for i in range(4)
    ]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([replace(r, label=1) for r in DATA], "4 of 4 rows .* row 1: 0 has the label 0, and then"),
        (
            [*DATA[:2], replace(DATA[2], responses=("bad 2", "good 2")), DATA[3]],
            "1 of 4 rows .* row 3: 2 has another prompt, other responses",
        ),
        ([DATA[1], DATA[0], *DATA[2:]], "2 of 4 rows .* row 1: 0 of A, and 1 of A"),
        (DATA[:3], "1 of 4 rows .* row 4: only the first evaluation has it"),
    ],
    ids=["labels", "responses", "order", "fewer"],
)
def test_rows_that_differ_are_refused(rows, says, folders):
    with pytest.raises(ValueError, match=says):
        list(pairs(*folders(DATA, rows)))


def test_evaluations_of_earlier_versions_are_compared(folders):
    a, b = folders(DATA, DATA)
    lines = [json.loads(line) for line in (a / ROWS).read_text().splitlines()]
    for line in lines:
        del line["digest"]
    (a / ROWS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert len(list(pairs(a, b))) == 4
