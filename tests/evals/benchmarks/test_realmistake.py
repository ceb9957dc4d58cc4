"""ReaLMistake: ROC-AUC of single scores; its texts are read in memory and go nowhere."""

import math
from zipfile import ZipFile

import numpy as np
import pytest

from grm_jax.data.sources import BadRow
from grm_jax.evals.benchmark import Table
from grm_jax.evals.benchmarks import find
from grm_jax.evals.benchmarks.realmistake import SPLITS

REALMISTAKE = find("realmistake")


@pytest.fixture(scope="module")
def examples(shared_data):
    return list(REALMISTAKE.read(str(shared_data / "realmistake")))


def test_all_rows_are_there_with_their_labels(examples, table_of):
    table = table_of(REALMISTAKE, [(example, None) for example in examples])
    assert REALMISTAKE.label(REALMISTAKE.count(table)) == "ReaLMistake"
    labels = [int(table.of(split)[:, 1].sum()) for split in SPLITS]
    assert labels == [53, 32, 52, 31, 53, 30]  # without an error, as its SOURCE.md counts
    assert len({example.id for example in examples}) == 900


def test_only_what_is_judged_is_kept_and_it_is_marked_as_secret(examples):
    assert REALMISTAKE.secret
    assert {key for example in examples for key in example.meta} == {"subset", "path", "line"}


def test_pooled_and_by_split_differ_where_splits_have_other_scales(examples, cells_of):
    first = next(iter(SPLITS))
    totals = [(float(e.label) if e.meta["subset"] == first else 10.0 + e.label,) for e in examples]
    cells = cells_of(REALMISTAKE, zip(examples, totals, strict=True))
    assert cells["ROC-AUC, mean of splits"] == cells[first] == 100
    right, wrong = 251, 649
    lost = 53 * (wrong - 87)  # right ones of the first split are below all wrong ones of the others
    assert cells["ROC-AUC, pooled"] == pytest.approx(100 * (1 - lost / (right * wrong)))


def test_an_unreadable_row_is_no_score_of_zero(examples, cells_of):
    right, wrong = (next(e for e in examples if e.label == label) for label in (1, 0))
    for unread in ([(right, None), (wrong, (1,))], [(right, (1,)), (wrong, None)]):
        assert cells_of(REALMISTAKE, unread)["ROC-AUC, pooled"] == 50


def test_by_hand_with_a_tie_and_an_unreadable_row():
    def pooled(*rows):
        values = np.array(rows, float)
        subset = np.array([next(iter(SPLITS))] * len(rows))
        return REALMISTAKE.cells(Table(subset, subset, values))["ROC-AUC, pooled"]

    assert pooled((9, 1), (5, 1), (5, 0), (1, 0)) == pytest.approx(100 * 3.5 / 4)
    assert pooled((math.nan, 1), (5, 1), (4, 0), (9, 0)) == pytest.approx(100 * (1 + 2 * 0.5) / 4)
    assert pooled((math.nan, 1), (math.nan, 0)) == 50
    assert math.isnan(pooled((9, 1), (1, 1)))


def test_a_wrong_or_partial_zip_says_so(tmp_path):
    for path in (None, "ryokamoi/realmistake", str(tmp_path)):
        with pytest.raises(FileNotFoundError, match=r"gated on the hub .* give its path as --data"):
            REALMISTAKE.read(path)
    text = tmp_path / "data.zip"
    text.write_text("not a zip")
    with pytest.raises(ValueError, match="is not a zip file"):
        REALMISTAKE.read(str(text))
    with ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("data/README.md", "")
    with pytest.raises(ValueError, match="has none of ReaLMistake's files data/math_word"):
        REALMISTAKE.read(str(tmp_path / "empty.zip"))


def test_bad_rows_are_told_without_their_text(tmp_path):
    rows = ['{"input": "SECRET', '{"input": "SECRET"}']
    rows += ['{"input": "SECRET", "llm_response": "SECRET", "error_label": "maybe"}']
    with ZipFile(tmp_path / "data.zip", "w") as archive:
        name = "data/answerability_classification/gpt-4-0613.jsonl"
        archive.writestr(name, "\n".join(rows))
    bad = list(REALMISTAKE.read(str(tmp_path)))
    assert all(isinstance(item, BadRow) for item in bad)
    assert [item.line for item in bad] == [1, 2, 3]
    assert not [item for item in bad if "SECRET" in str(item) + item.id]
    assert "lacks llm_response, error_label" in bad[1].reason
