"""RewardBench and its Prior Sets (Lambert et al., arXiv 2403.13787)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain

from grm_jax.evals.benchmark import Benchmark, Table, Totals, credit
from grm_jax.evals.benchmarks.averages import mean_of, means, weighted_mean
from grm_jax.evals.benchmarks.reading import Rows, into_subsets, locate, not_a_pair, open_rows
from grm_jax.judging.reward import is_correct
from grm_jax.text.messages import Example

# The rows of each subset of the split "filtered".
SECTIONS: dict[str, dict[str, int]] = {
    "Chat": {
        "alpacaeval-easy": 100,
        "alpacaeval-length": 95,
        "alpacaeval-hard": 95,
        "mt-bench-easy": 28,
        "mt-bench-med": 40,
    },
    "Chat Hard": {
        "mt-bench-hard": 37,
        "llmbar-natural": 100,
        "llmbar-adver-neighbor": 134,
        "llmbar-adver-GPTInst": 92,
        "llmbar-adver-GPTOut": 47,
        "llmbar-adver-manual": 46,
    },
    "Safety": {
        "refusals-dangerous": 100,
        "refusals-offensive": 100,
        # Early official code had the counts of these two swapped.
        "xstest-should-refuse": 154,
        "xstest-should-respond": 250,
        "donotanswer": 136,
    },
    "Reasoning": {
        "math-prm": 447,
        "hep-cpp": 164,
        "hep-go": 164,
        "hep-java": 164,
        "hep-js": 164,
        "hep-python": 164,
        "hep-rust": 164,
    },
}
FULL = {subset: count for section in SECTIONS.values() for subset, count in section.items()}
# Officially, math weighs as much as all code subsets together.
WEIGHTS = {
    name: section | ({"math-prm": 984} if "math-prm" in section else {})
    for name, section in SECTIONS.items()
}
PRIOR_SETS = {"anthropic_helpful": 6192, "anthropic_hhh": 221, "shp": 1741, "summarize": 9000}
MESSAGES = 4  # in a conversation with its response, for judges that write
COLUMNS = ("prompt", "chosen", "rejected")


def value(example: Example, totals: Totals | None, scalar: bool) -> tuple[float]:
    """Officially, a scalar model must score the chosen response strictly higher; a generative judge
    gets 0.5 for a tie, and for an answer that cannot be read."""
    assert example.label is not None  # checked by the reader
    if scalar:
        return (float(is_correct(totals, example.label)),)
    return (0.5 if totals is None else credit(totals, example.label),)


def total(sections: Mapping[str, float]) -> float:
    """RewardBench: the mean of its four sections."""
    return mean_of(sections, SECTIONS)


def _cells(table: Table) -> dict[str, float]:
    subsets = means(table, tuple(FULL))
    sections = {name: weighted_mean(subsets, weights) for name, weights in WEIGHTS.items()}
    return {"RewardBench": total(sections)} | sections | subsets


def _read(path: str | None) -> Rows:
    source = open_rows(path, "allenai/reward-bench", (*COLUMNS, "subset"), "filtered")
    return into_subsets(source, lambda example: example.meta.get("subset"), FULL, not_a_pair)


REWARD_BENCH = Benchmark(
    name="rewardbench",
    title="RewardBench",
    hub="allenai/reward-bench",
    full=FULL,
    headline="RewardBench",
    read=_read,
    value=value,
    cells=_cells,
    sections=SECTIONS,
)


def _read_prior_sets(path: str | None) -> Rows:
    hub = "allenai/preference-test-sets"
    where = locate(path, hub)
    sources, reasons = {}, []
    for name in PRIOR_SETS:
        try:
            sources[name] = open_rows(where, hub, COLUMNS, name)
        except ValueError as error:
            reasons.append(str(error))
    if not sources:
        raise ValueError(
            f"{where} has none of the Prior Sets {', '.join(PRIOR_SETS)}: {reasons[0]}"
        )
    return chain.from_iterable(_named(name, iter(source)) for name, source in sources.items())


def _too_many_messages(example: Example, scalar: bool) -> str:
    """The script for judges that write (run_generative.py) leaves out longer conversations; the one
    for scalar models (run_rm.py) does not."""
    count = len(example.prompt) + 1
    if scalar or count <= MESSAGES:
        return ""
    return (
        f"the conversation has {count} messages, the response among them: up to {MESSAGES} count."
    )


def _named(name: str, source: Rows) -> Rows:
    """The rows of a set, with ids that are unique across sets."""
    for row in into_subsets(source, lambda _: name, PRIOR_SETS, not_a_pair):
        yield replace(row, id=f"{name}/{row.id}")


def _prior_cells(table: Table) -> dict[str, float]:
    sets = means(table, tuple(PRIOR_SETS))
    return {"Prior Sets": mean_of(sets, PRIOR_SETS)} | sets


PRIOR = Benchmark(
    name="prior-sets",
    title="RewardBench's Prior Sets",
    hub="allenai/preference-test-sets",
    full=PRIOR_SETS,
    headline="Prior Sets",
    read=_read_prior_sets,
    value=value,
    cells=_prior_cells,
    leaves_out=_too_many_messages,
)
