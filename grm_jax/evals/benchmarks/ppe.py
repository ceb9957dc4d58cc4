"""Preference Proxy Evaluations (Frick et al., arXiv 2410.14872): human votes, and correctness."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from grm_jax.data.sources import BadRow, Source
from grm_jax.evals.benchmark import Benchmark, Table, Totals, credit
from grm_jax.evals.benchmarks.averages import column_means, mean_of, means
from grm_jax.evals.benchmarks.reading import Rows, bad, into_subsets, open_rows, put
from grm_jax.text.messages import Example

VOTES = "lmarena-ai/PPE-Human-Preference-V1"
# The questions of each set.
SETS = {"MMLU-Pro": 512, "MATH": 512, "GPQA": 512, "IFEval": 512, "MBPP-Plus": 507}
BEST_OF = (1, 2, 4, 8, 16, 32)


def _credit(example: Example, totals: Totals | None, scalar: bool) -> tuple[float, ...]:
    """The chance that a random choice among the highest-scored responses is right."""
    assert example.label is not None  # checked by the readers
    return (credit(totals, example.label),)


def _read_votes(path: str | None) -> Rows:
    columns = ("prompt", "response_1", "response_2", "winner")
    source = open_rows(path, VOTES, columns, "test")
    return _without_ties(into_subsets(source, lambda _: "PPE Preference", ("PPE Preference",)))


def _without_ties(items: Iterable[Example | BadRow]) -> Rows:
    """The votes with a winner; meta["votes"] is the number of votes that each stands for: itself,
    the ties between it and the next, and for the first one, those before it."""
    held, votes = None, 0
    for item in items:
        if isinstance(item, BadRow):
            yield item
        elif item.label is None:
            votes += 1
        else:
            if held is not None:
                yield put(held, votes=votes)
                votes = 0
            held, votes = item, votes + 1
    if held is not None:
        yield put(held, votes=votes)


class VoteValue(NamedTuple):
    """The credit of a verdict on a vote, and the number of votes that it stands for."""

    credit: Any
    votes: Any


def _vote_value(example: Example, totals: Totals | None, scalar: bool) -> VoteValue:
    (value,) = _credit(example, totals, scalar)
    return VoteValue(value, float(example.meta["votes"]))


PREFERENCE = Benchmark(
    name="ppe-preference",
    title="PPE Preference",
    hub=VOTES,
    # Its votes. Ties are dropped, but no source says how many there are.
    full={"PPE Preference": 16038},
    headline="PPE Preference",
    read=_read_votes,
    value=_vote_value,
    cells=lambda table: means(table, ("PPE Preference",)),
    count=lambda table: {"PPE Preference": int(VoteValue(*table.values.T).votes.sum())},
)


def _open_sets(path: str | None) -> dict[str, Source]:
    """The sets at the path: the one that it is, or those whose folders are in it."""
    paths = {name: path for name in SETS if path is None or f"PPE-{name}-Best-of-K" in path}
    if not paths and path is not None:
        inside = {
            name: [Path(path) / f"{owner}PPE-{name}-Best-of-K" for owner in ("lmarena-ai__", "")]
            for name in SETS
        }
        paths = {name: path for name, dirs in inside.items() if any(p.is_dir() for p in dirs)}
    if not paths:
        raise FileNotFoundError(
            f"{path} is not one of PPE's sets {', '.join(SETS)}, and has none in it: name the "
            "folders as the hub does, lmarena-ai__PPE-MMLU-Pro-Best-of-K"
        )
    columns = ("prompt", "response_1", "response_2", "scores", "sampled_conflict_pairs")
    return {
        name: open_rows(where, f"lmarena-ai/PPE-{name}-Best-of-K", columns, "train")
        for name, where in paths.items()
    }


def _named(name: str, source: Source) -> Rows:
    """The questions of a set, with ids that are unique across sets."""
    for item in source:
        if isinstance(item, BadRow):
            yield item
        elif item.scores is None or len(set(item.scores)) > 2:
            yield bad(item, f"scores is {item.scores}: each response needs one of two values")
        else:
            meta = {"subset": name, "path": item.meta["path"], "line": item.meta["line"]}
            pairs = item.meta.get("sampled_conflict_pairs", ())
            yield Example(
                item.prompt,
                item.responses,
                f"{name}/{item.id}",
                scores=item.scores,
                meta=meta | {"pairs": pairs},
                line=item.line,
                own_id=item.own_id,
            )


def _read_pairs(path: str | None) -> Rows:
    sets = _open_sets(path)
    return chain.from_iterable(
        _pairs(question) for name, source in sets.items() for question in _named(name, source)
    )


def _pairs(question: Example | BadRow) -> Iterator[Example | BadRow]:
    """The conflict pairs of a question (indices from 0): one response of each is right."""
    if isinstance(question, BadRow):
        yield question
        return
    scores, meta = question.scores or (), dict(question.meta)
    for number, pair in enumerate(meta.pop("pairs")):
        identity = f"{question.id}:{number}"
        if len(pair) != 2 or not all(0 <= i < question.n for i in pair):
            limits = f"two indices from 0 to {question.n - 1} are needed"
            yield bad(question, f"conflict pair {number} is {pair}: {limits}")
            continue
        first, second = pair
        if scores[first] == scores[second]:
            yield bad(question, f"conflict pair {number} has two responses with the same score")
            continue
        yield Example(
            question.prompt,
            (question.responses[first], question.responses[second]),
            identity,
            label=int(scores[second] > scores[first]),
            meta=meta | {"unit": question.id},
            line=question.line,
            own_id=question.own_id,
        )


def total(sets: Mapping[str, float]) -> float:
    """PPE Correctness: the mean of its five sets."""
    return mean_of(sets, SETS)


def _pair_cells(table: Table) -> dict[str, float]:
    sets = means(table, tuple(SETS))
    return {"PPE Correctness": total(sets)} | sets


def _questions(table: Table) -> dict[str, int]:
    pairs = set(zip(table.subset.tolist(), table.unit.tolist(), strict=True))
    return dict(Counter(subset for subset, _ in pairs))


CORRECTNESS = Benchmark(
    name="ppe-correctness",
    title="PPE Correctness",
    hub="lmarena-ai/PPE-*-Best-of-K",
    full=SETS,
    headline="PPE Correctness",
    read=_read_pairs,
    value=_credit,
    cells=_pair_cells,
    count=_questions,
)


def _read_questions(path: str | None) -> Rows:
    sets = _open_sets(path)
    return chain.from_iterable(_named(name, source) for name, source in sets.items())


def best_of(ranked_by: np.ndarray, gold: np.ndarray, k: int) -> float:
    """The expected gold score of the response that ranks highest among k drawn at random from K.

    Exact: in descending order, response r (from 0) is the highest of the k with probability
    C(K-1-r, k-1) / C(K, k). Responses with equal ranks are in random order, so each counts as the
    mean of its group.

    Args:
        ranked_by, gold: [K].
        k: the result is nan if this is more than K.
    """
    if k > len(gold):
        return math.nan
    _, group = np.unique(-ranked_by, return_inverse=True)
    mean = np.bincount(group, gold) / np.bincount(group)
    ranked = mean[np.sort(group)]
    size = len(gold)
    chances = [math.comb(size - 1 - r, k - 1) / math.comb(size, k) for r in range(size)]
    return float(ranked @ np.array(chances))


def _curve(example: Example, totals: Totals | None, scalar: bool) -> tuple[float, ...]:
    """The expected scores of the judge's choice for each k in BEST_OF, then those of an oracle's
    choice, and last that of the judge's choice among all K. If no sample can be read, the choice is
    random."""
    gold = np.asarray(example.scores)
    judged = np.zeros(len(gold)) if totals is None else np.asarray(totals)
    chosen = [best_of(judged, gold, k) for k in BEST_OF]
    oracle = [best_of(gold, gold, k) for k in BEST_OF]
    return (*chosen, *oracle, best_of(judged, gold, len(gold)))


def _curve_cells(table: Table) -> dict[str, float]:
    """k = 1 is a random choice."""
    names = [f"k = {k}" for k in BEST_OF] + [f"oracle, k = {k}" for k in BEST_OF]
    *curves, whole = column_means(table, tuple(SETS), range(len(names) + 1))
    cells = {"PPE best of K": total(whole)}
    cells |= {name: total(sets) for name, sets in zip(names, curves, strict=True)}
    for set_name in SETS:
        cells[set_name] = whole[set_name]
        for name, sets in zip(names, curves, strict=True):
            cells[f"{set_name}, {name}"] = sets[set_name]
    return cells


BEST_OF_K = Benchmark(
    name="ppe-best-of-k",
    title="PPE best of K",
    hub="lmarena-ai/PPE-*-Best-of-K",
    full=SETS,
    headline="PPE best of K",
    read=_read_questions,
    value=_curve,
    cells=_curve_cells,
)
