"""The page of an SPCT run, from a run folder made by hand."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grm_jax.evals import spct_page
from grm_jax.evals.plots import curve, smooth
from grm_jax.evals.spct_page import write_page
from grm_jax.judging.judgment import Judgment, Sampled
from grm_jax.judging.samples import to_json
from grm_jax.metric_names import CORRECT, LOSS, TARGETS
from grm_jax.text.messages import Example

HOSTILE = "<script>alert(1)</script></details></div> {{ 7 * 7 }} \" onload='x' \u202e&amp;"
VOID = {"meta", "link", "br", "hr", "img", "input"}
# (right on item 0, 1, 2 ..) of each model's first judgment.
FIRST = {"start": [0, 1, 0], "rft": [0, 1, 1], "grpo": [1, 0, 1]}


def estimates(*means: float, error: float = 0.01) -> dict[str, Any]:
    """Accuracy.to_json()'s form, the largest k first: JSON does not sort."""
    sizes = [2**i for i in range(len(means))]
    rows = {
        str(k): {"mean": m, "error": error, "count": 3} for k, m in zip(sizes, means, strict=True)
    }
    return dict(sorted(rows.items(), reverse=True))


def measured(*means: float, guided: bool = False) -> dict[str, Any]:
    return {
        "strict": estimates(*(m - 0.1 for m in means)),
        "credited": estimates(*means),
        "guided": estimates(*(m + 0.05 for m in means)) if guided else {},
        "gain": estimates(*(0.005 * i for i in range(len(means))), error=0.009) if guided else {},
        "items": 3,
        "samples": 96,
        "invalid": {"no_box": 9, "truncated": 3},
        "tokens": 61.25,
    }


def judgment(right: bool, order: tuple[int, ...], text: str, sample: int = 0) -> Judgment:
    scores = (3, 8) if right else (8, 3)
    return Judgment(sample, order, "", text, scores, None, text, 7, -1.0)


def line(item: int, right: bool, order: tuple[int, ...] = (1, 0), who: str = "") -> str:
    example = Example(
        ({"role": "user", "content": f"question {item} {HOSTILE}"},),
        (f"worse {item}", f"better {item} {HOSTILE}"),
        f"item-{item}",
        label=1,
    )
    judgments = [judgment(right, order, f"{who} on {item}: {HOSTILE}"), judgment(True, order, "x")]
    return json.dumps(to_json(Sampled(example, tuple(judgments)))) + "\n"


def write(path: Path, *rows: dict[str, Any], tail: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail, encoding="utf-8")


def make_run(folder: Path) -> Path:
    """A run with everything in it."""
    folder.mkdir()
    (folder / "config.yaml").write_text(f"output: 'runs/{HOSTILE}'\nseed: 0\n")
    for name, seconds in {"rft": 30.5, "grpo": 3700.0, "meta_rm": 90.0, "evaluation": 12}.items():
        write(folder / name / "stage.json", {"done": True, "seconds": seconds, "inputs": {}})
    write_rft(folder / "rft")
    write(
        folder / "grpo" / "metrics.jsonl",
        *(
            {"step": i, "reward": i / 99, "kl": float("nan") if i == 5 else 0.01, "entropy": 1.5}
            | {"frac_reward_zero_std": 0.25, "completions/mean_length": 60, "train/loss": 0.1}
            | {"completions/invalid_ratio": 0.0, "tokens_per_second": 1234.0}
            | {"sampling/logprob_drift": 0.015}
            for i in range(1, 100)
        ),
        tail='{"step": 100, "rew',
    )
    (folder / "grpo" / "filter.jsonl").write_text(line(0, True) + line(1, False))
    write_meta(folder / "meta_rm")
    evaluation = folder / "evaluation"
    stages = {
        "start": (0.4, 0.5),
        "rft": (0.51, 0.52, 0.53, 0.54, 0.55),
        "grpo": (0.61, 0.62, 0.63, 0.64, 0.65),
    }
    report = {
        name: {
            "voting": measured(*means, guided=name != "start"),
            "greedy": measured(means[0] + 0.3),
        }
        for name, means in stages.items()
    }
    write(evaluation / "report.json", {"items": 3, "k": 16, "stages": report})
    for name, rights in FIRST.items():
        lines = (line(i, bool(r), who=name.upper()) for i, r in enumerate(rights))
        (evaluation / f"{name}.jsonl").write_text("".join(lines))
    return folder


def write_rft(folder: Path) -> None:
    plain = {"chosen": 25, "too_easy": 50, "tied": 5, "wrong": 120}
    report = {"items": 70, "items_with_a_chosen_judgment": 31, "plain": plain}
    report |= {"hinted": {"chosen": 6, "unparsable": 2}}
    report |= {"by_responses": {"16": {"wrong": 3}, "2": {"chosen": 31}}}
    write(folder / "report.json", report)
    write(folder / "rft" / "metrics.jsonl", *({"step": i, "train/loss": 2 / i} for i in (1, 2, 3)))
    row = {"id": "a", "hinted": False, "sample": 0, "query": f"asked {HOSTILE}", "label": 1}
    row |= {"responses": [f"B {HOSTILE}", "A"], "best": 0, "text": f"said {HOSTILE} \ud800"}
    write(
        folder / "trajectories.jsonl",
        row | {"outcome": "chosen", "reason": None, "scores": [9, 1], "text": "not to be shown"},
        row | {"outcome": "unparsable", "reason": "no_box", "scores": None},
        row | {"outcome": "wrong", "reason": None, "scores": [2, 6]},
    )


def write_meta(folder: Path) -> None:
    rows = ({"step": i, LOSS: 0.6, CORRECT: 6, TARGETS: 8} for i in (1, 2))
    write(folder / "metrics.jsonl", *rows)
    train = {"items": 40, "judgments": 160, "right_share": 0.625, "balance": "natural"}
    heldout = {"items": 10, "judgments": 40, "right_share": 0.6, "mixed_items": 7, "auc": 0.8125}
    heldout |= {"auc_within": 0.75, "auc_within_error": float("nan"), "calibration_error": 0.034}
    heldout |= {"bins": [[0.2, 0.25, 20], [0.8, 0.75, 20]]}
    write(folder / "report.json", {"train": train, "heldout": heldout})


class Reader(HTMLParser):
    """Tables as lists of rows of cell texts, tags that do not balance, and every attribute."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.headings: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.ids: list[str] = []
        self.bold: list[str] = []
        self.rows: list[list[str]] = []
        self.caption = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.rows, self.caption = [], ""
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "h2":
            self.headings.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()
        if tag == "table":
            self.tables[self.caption] = self.rows

    def handle_data(self, data: str) -> None:
        if "caption" in self.open:
            self.caption += data
        elif "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data
            if "strong" in self.open:
                self.bold.append(data)
        elif "h2" in self.open:
            self.headings[-1] += data

    def table(self, start: str) -> list[list[str]]:
        (found,) = (rows for caption, rows in self.tables.items() if caption.startswith(start))
        return found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = make_run(tmp_path_factory.mktemp("spct") / "run")
    path = write_page(folder)
    assert path == folder / "index.html"
    assert [p.name for p in folder.glob("index*")] == ["index.html"]
    return path.read_text(encoding="utf-8")


def test_accuracies_stand_in_their_cells(page: str) -> None:
    reader = Reader(page)
    head, sizes, *rows = reader.tables[
        "Accuracy in percent ± one standard error over items; a tie of m responses counts 1/m"
    ]
    assert head[:2] == ["Model", "Greedy"]
    assert sizes == ["1", "2", "4", "8", "16"]
    gain = ["Gain of MetaRM, paired", "–"] + [f"{x:+.1f} ± 0.9" for x in (0.0, 0.5, 1.0, 1.5, 2.0)]
    assert rows == [
        ["Start Voting@k", "70.0 ± 1.0", "40.0 ± 1.0", "50.0 ± 1.0", "–", "–", "–"],
        ["RFT Voting@k", "81.0 ± 1.0", *(f"5{i}.0 ± 1.0" for i in range(1, 6))],
        ["RFT MetaRM@k", "–", *(f"5{i}.0 ± 1.0" for i in range(6, 10)), "60.0 ± 1.0"],
        gain,
        ["GRPO Voting@k", "91.0 ± 1.0", *(f"6{i}.0 ± 1.0" for i in range(1, 6))],
        ["GRPO MetaRM@k", "–", *(f"6{i}.0 ± 1.0" for i in range(6, 10)), "70.0 ± 1.0"],
        gain,
    ]
    # Only 2.0 is more than twice 0.9.
    assert "".join(reader.bold) == "+2.0 ± 0.9" * 2
    strict = reader.table("Accuracy in percent ± one standard error over items; a tie is wrong")
    assert strict[2][1:4] == ["60.0 ± 1.0", "30.0 ± 1.0", "40.0 ± 1.0"]
    assert "3 items" in page
    assert "up to 16 samples" in page
    assert "3,832 seconds (1 h 3 min)" in page


def test_what_the_stages_did_stands_in_tables(page: str) -> None:
    reader = Reader(page)
    head, plain, hinted = reader.table("What became of the judgments, and")
    assert head[1:] == ["All", "chosen", "too easy", "tied", "wrong", "unparsable"]
    shares = ["25 12.5 %", "50 25.0 %", "5 2.5 %", "120 60.0 %", "0 0.0 %"]
    assert plain == ["Plain", "200", *shares]
    assert hinted[1:] == ["8", "6 75.0 %", "0 0.0 %", "0 0.0 %", "0 0.0 %", "2 25.0 %"]
    by_size = reader.table("What became of the judgments, by")
    assert [row[0] for row in by_size[1:]] == ["2 responses", "16 responses"]
    costs = reader.table("How long")
    assert costs[1] == ["Start", "96", "61.2", "12.5 %", "no_box 9, truncated 3"]
    meta = {row[0]: row[1] for row in reader.table("Judgments of held-out")}
    assert meta["AUC overall"] == "0.812"
    assert meta["AUC within an item"] == "0.750"
    assert meta["Right, learned from"] == "62.5 %"
    assert reader.table("Seconds")[2] == ["GRPO", "3,700", "1 h 1 min"]
    assert "the reference judge was always right on 1 of them" in page
    assert "99 steps of GRPO" in page


def test_a_share_of_judgments_is_of_those_that_were_learned_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {}

    def watched(name: str, title: str, steps: list, values: list, colour: str) -> str | None:
        drawn[title] = values
        return curve(name, title, steps, values, colour)

    monkeypatch.setattr(spct_page, "curve", watched)
    write_page(make_run(tmp_path / "run"))
    assert drawn["Judgments told right, %"] == [75.0, 75.0]  # 6 of 8


def test_examples_have_the_two_kinds_of_change_and_the_judges_order(page: str) -> None:
    section = page[page.index('<h2 id="examples"') : page.index('<h2 id="rft"')]
    assert section.count("wrong → right") == 2
    assert section.count("right → wrong") == 1
    assert section.index("question 0") < section.index("question 2") < section.index("question 1")
    # The judge saw response 1, the best one, at place 1.
    assert section.index("better 0") < section.index("worse 0")
    assert "Response 1 (best)" in section
    for who in FIRST:
        assert f"{who.upper()} on 0" in section


def test_responses_are_told_per_stage_where_orders_differ(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    (folder / "evaluation" / "grpo.jsonl").write_text(line(0, True, (0, 1)))
    page = write_page(folder).read_text()
    assert page.count("worse 0") == 3
    assert page.count("better 0") == 3


def test_hostile_text_stays_text(page: str) -> None:
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&lt;/details&gt;" in page
    assert "{{ 7 * 7 }}" in page
    reader = Reader(page)
    assert reader.open == []
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]
    assert "not to be shown" not in page


def test_the_page_loads_nothing(page: str) -> None:
    reader = Reader(page)
    assert page.startswith("<!doctype html>")
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _, _ in reader.attributes}
    loads = [v for _, name, v in reader.attributes if name in ("src", "href", "xlink:href")]
    assert all(value.startswith("#") for value in loads)
    bare = re.sub(r'xmlns="http://www.w3.org/2000/svg"', "", page)
    assert "http://" not in bare
    assert "https://" not in bare
    assert "@import" not in bare
    assert not re.search(r"url\((?!#)", bare)


def test_figures_have_words_and_ids_of_their_own(page: str) -> None:
    reader = Reader(page)
    labels = [v for tag, name, v in reader.attributes if (tag, name) == ("svg", "aria-label")]
    # One accuracy, one RFT, six GRPO, two and a reliability of the meta RM.
    assert len(labels) == 11
    assert "GRPO, MetaRM 66.0 % at k = 1, 70.0 % at k = 16" in labels[0]
    assert len(set(reader.ids)) == len(reader.ids)
    used = re.findall(r'(?:url\(|href=")#([^")]+)', page)
    assert set(used) <= set(reader.ids)


def test_same_folder_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    first, second = (write_page(make_run(tmp_path / name / "run")) for name in "ab")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("stage", "gone"),
    [
        ("rft", "Rejective fine-tuning"),
        ("grpo", "Reinforcement learning"),
        ("meta_rm", "Meta reward model"),
        ("evaluation", "Accuracy"),
    ],
)
def test_a_missing_stage_has_no_section(page: str, tmp_path: Path, stage: str, gone: str) -> None:
    folder = make_run(tmp_path / "run")
    shutil.rmtree(folder / stage)
    reader = Reader(write_page(folder).read_text())
    also = {"Before and after"} if stage == "evaluation" else set()
    assert set(Reader(page).headings) - set(reader.headings) == {gone} | also
    assert reader.open == []


def test_an_empty_run_and_a_lone_model_have_a_page(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert Reader(write_page(tmp_path / "empty").read_text()).headings == []
    lone = {"start": {"voting": measured(0.5), "greedy": measured(0.5)}}
    lone["start"]["voting"]["credited"]["1"]["error"] = float("nan")
    folder = tmp_path / "lone"
    write(folder / "evaluation" / "report.json", {"items": 1, "k": 1, "stages": lone})
    write(folder / "grpo" / "metrics.jsonl", {"step": 1, "reward": 0.5})
    reader = Reader(write_page(folder).read_text())
    assert reader.headings == ["Accuracy", "Reinforcement learning"]
    accuracy = next(iter(reader.tables.values()))
    assert accuracy[2] == ["Start Voting@k", "50.0 ± 1.0", "50.0"]


def test_smoothing_is_a_mean_that_passes_over_what_is_missing() -> None:
    values = np.ones(200)
    values[20] = np.nan
    assert smooth(values) == pytest.approx(np.ones(200))
    assert smooth(np.array([1.0, 3.0])).tolist() == [1.0, 3.0]
    steps = smooth(np.arange(100.0))
    assert steps[50] == pytest.approx(50)
    assert steps[0] == pytest.approx(1)
