"""Preference Proxy Evaluations (Frick et al., arXiv 2410.14872): human votes, and correctness."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path

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
    """What a random choice among the highest is worth."""
    assert example.label is not None  # seen to by the readers
    return (credit(totals, example.label),)


def _read_votes(path: str | None) -> Rows:
    columns = ("prompt", "response_1", "response_2", "winner")
    source = open_rows(path, VOTES, columns, "test")
    return _without_ties(into_subsets(source, lambda _: "PPE Preference", ("PPE Preference",)))


def _without_ties(items: Iterable[Example | BadRow]) -> Rows:
    """The votes with a winner; meta["votes"] says of how many votes each takes the place: itself
    and the ties between it and the next (of the first one, those before it too)."""
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


def _vote_value(example: Example, totals: Totals | None, scalar: bool) -> tuple[float, ...]:
    return (*_credit(example, totals, scalar), float(example.meta["votes"]))


PREFERENCE = Benchmark(
    name="ppe-preference",
    title="PPE Preference",
    hub=VOTES,
    # Its votes; ties are dropped, but how many of them are ties is written nowhere.
    full={"PPE Preference": 16038},
    headline="PPE Preference",
    read=_read_votes,
    value=_vote_value,
    cells=lambda table: means(table, ("PPE Preference",)),
    found=lambda table: {"PPE Preference": int(table.values[:, 1].sum())},
)


def _open_sets(path: str | None) -> dict[str, Source]:
    """The sets that are at the path: one of them, or a folder that holds some of their folders."""
    places = {name: path for name in SETS if path is None or f"PPE-{name}-Best-of-K" in path}
    if not places and path is not None:
        inside = {
            name: [Path(path) / f"{owner}PPE-{name}-Best-of-K" for owner in ("lmarena-ai__", "")]
            for name in SETS
        }
        places = {name: path for name, found in inside.items() if any(p.is_dir() for p in found)}
    if not places:
        raise FileNotFoundError(
            f"{path} is none of PPE's sets {', '.join(SETS)} and holds none: name the folders as "
            "the hub does, lmarena-ai__PPE-MMLU-Pro-Best-of-K"
        )
    columns = ("prompt", "response_1", "response_2", "scores", "sampled_conflict_pairs")
    return {
        name: open_rows(place, f"lmarena-ai/PPE-{name}-Best-of-K", columns, "train")
        for name, place in places.items()
    }


def _named(name: str, source: Source) -> Rows:
    """The questions of a set, with ids that no other set has."""
    for item in source:
        if isinstance(item, BadRow):
            yield item
        elif item.scores is None or len(set(item.scores)) > 2:
            yield bad(item, f"scores is {item.scores}: one of two values is needed per response")
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
    """The conflict pairs of a question (indices from 0), of which one response is right."""
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
    """PPE Correctness from its five sets: their mean."""
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
    found=_questions,
)


def _read_questions(path: str | None) -> Rows:
    sets = _open_sets(path)
    return chain.from_iterable(_named(name, source) for name, source in sets.items())


def best_of(ranked_by: np.ndarray, gold: np.ndarray, k: int) -> float:
    """The expected gold score of the response that ranks highest among k of K drawn at random.

    Exact: of the responses in falling order, number r (from 0) is the highest of the k with
    probability C(K-1-r, k-1) / C(K, k). Responses that rank the same are in random order, so that
    each counts with the mean of its group.

    Args:
        ranked_by, gold: [K].
        k: nan is returned if it is more than K.
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
    """Of each k in BEST_OF: the expected score of the judge's choice, and of an oracle's; then of
    the judge's choice among all K. Without a readable sample the choice is a random one."""
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
