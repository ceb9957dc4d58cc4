"""The benchmarks by name. Each file has one family: its rows, official rules and totals."""

from grm_jax.evals.benchmark import Benchmark
from grm_jax.evals.benchmarks.judge_bench import JUDGE_BENCH
from grm_jax.evals.benchmarks.labelled import WORLD, WORLD_SINGLE, rows
from grm_jax.evals.benchmarks.ppe import BEST_OF_K, CORRECTNESS, PREFERENCE
from grm_jax.evals.benchmarks.realmistake import REALMISTAKE
from grm_jax.evals.benchmarks.reward_bench import PRIOR, REWARD_BENCH
from grm_jax.evals.benchmarks.reward_bench_2 import REWARD_BENCH_2
from grm_jax.evals.benchmarks.rm_bench import RM_BENCH
from grm_jax.evals.benchmarks.rmb import RMB

__all__ = ["BENCHMARKS", "PAPER", "find", "rows"]

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        REWARD_BENCH,
        PREFERENCE,
        CORRECTNESS,
        RMB,
        REALMISTAKE,
        PRIOR,
        REWARD_BENCH_2,
        BEST_OF_K,
        JUDGE_BENCH,
        RM_BENCH,
        WORLD,
        WORLD_SINGLE,
    )
}


# The four whose mean is the paper's Overall.
PAPER = (REWARD_BENCH, PREFERENCE, CORRECTNESS, RMB)


def find(name: str) -> Benchmark:
    """The benchmark of this name. Raises a ValueError that lists the names if there is none."""
    if name not in BENCHMARKS:
        raise ValueError(f"there is no benchmark {name!r}: give one of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]
