"""`JudgeReward`: a judge with the signatures of the reward functions of RL trainers.

TRL 1.16, Tunix 0.1.7, verl 0.9.1, OpenRLHF 0.11.2, AReaL 1.0.4; none of them is imported. Each is
given a real function, with the name that its metrics go by: trainers look at names and signatures.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from grm_jax.judging.judge import Judge
from grm_jax.judging.principles import GivenPrinciples
from grm_jax.rewards.cohorts import Cohorts
from grm_jax.rewards.reading import Columns, Reader
from grm_jax.rewards.scale import Scale
from grm_jax.rewards.scorer import Result, Scored, Scorer, failures, mean_metrics, required
from grm_jax.rewards.turns import answer_in, prompt_of
from grm_jax.text.rendered import without_end

Function = TypeVar("Function", bound=Callable[..., Any])

log = logging.getLogger(__name__)


class JudgeReward:
    """Rewards by a judge.

    All completions of one prompt in a call are judged together, in groups. A completion that could
    not be judged has no reward: that is None for TRL and an error for the others, and never 0. Any
    thread may call, and any event loop: what comes while the judge is busy shares its next run.
    `grm judge` with the same settings gives the same scores to the same groups.

    Args:
        judge: it must not be used otherwise while rewards are asked for.
        k: samples of each group.
        group: the most responses that are judged together; those of a prompt are divided evenly.
            No more than the judge was trained on: that is 4 for the bundled one.
        scale: what the reward is, see `rewards_of`.
        name: of the function, and so of its metrics.
        reference, principles: the columns with the reference answer, which a judge that was loaded
            with `reference=True` is shown, and with criteria; by default neither is read.
        rubric: a file of principles, or a folder that keeps those which the judge writes, once
            per prompt, see `GivenPrinciples` and `grm judge --principles`. A row's own go
            first.
        applies: tells from a row's other columns whether there is a reward for it; by default for
            all of them.
        question: the key of verl's `extra_info` that holds the prompt.
        cohort: where a trainer asks for one completion at a time (verl, OpenRLHF), how many of a
            prompt are waited for, to be judged together; 1: each alone.
        wait: seconds after which the first of a cohort goes with those that are there.

    Raises:
        ValueError: a setting out of its range.
    """

    def __init__(
        self,
        judge: Judge,
        *,
        k: int = 8,
        group: int = 4,
        scale: Scale = "mean",
        name: str = "grm",
        reference: str | None = None,
        principles: str | None = None,
        rubric: str | Path | None = None,
        applies: Callable[[Columns], bool] | None = None,
        question: str = "question",
        cohort: int = 1,
        wait: float = 2.0,
    ):
        self.name = self.__name__ = name
        self.given = None if rubric is None else GivenPrinciples(rubric, judge)
        self._scorer = Scorer(judge, k=k, group=group, scale=scale, given=self.given)
        self._reader = Reader(reference, principles, applies, question)
        self._cohorts = Cohorts(self._scorer.submit, cohort, wait)
        self._last = threading.local()

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> list[float]:
        """The rewards of completions, each text or messages; nan where there is none for a row.

        columns: lists as long as `prompts`; anything else is passed over.

        Raises:
            ValueError: one of them could not be judged, and why.
        """
        return _or_nan(self.score(prompts, completions, **columns))

    def score(
        self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> list[Result]:
        """The same with verdicts: a `Scored`, a `Refusal`, or None where there is no reward."""
        return self._scorer.submit(self._reader.rows(prompts, completions, columns)).result()

    @property
    def trl(self) -> Callable[..., list[float | None]]:
        """For TRL's `reward_funcs`; None where there is no reward, with a warning."""

        def reward(
            prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
        ) -> list[float | None]:
            results = self.score(prompts, completions, **columns)
            return self._told_to_trl(results, columns)

        return self._named(reward)

    @property
    def trl_async(self) -> Callable[..., Any]:
        """The same as a coroutine, which TRL runs beside other asynchronous rewards."""

        async def reward(
            prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
        ) -> list[float | None]:
            rows = self._reader.rows(prompts, completions, columns)
            results = await asyncio.wrap_future(self._scorer.submit(rows))
            return self._told_to_trl(results, columns)

        return self._named(reward)

    @property
    def tunix(self) -> Callable[..., list[float]]:
        """For Tunix's `reward_fns`, and MaxText's; prompts may have gone through a chat template.

        Where `applies` says that there is no reward it is nan, which Tunix leaves out of its sum
        over several functions. Of a failure it would make 0: that is an error.
        """

        def reward(
            prompts: Sequence[str], completions: Sequence[str], **columns: Any
        ) -> list[float]:
            answers = list(map(without_end, completions))
            results = self.score(list(map(prompt_of, prompts)), answers, **columns)
            self._last.metrics = mean_metrics(results)
            return _or_nan(results)

        return self._named(reward)

    @property
    def tunix_metrics(self) -> Callable[..., dict[str, tuple[float, Any]]]:
        """For Tunix's `metric_fns`: the metrics of the call that its thread has just made."""

        def metrics(**_: Any) -> dict[str, tuple[float, Any]]:
            last = getattr(self._last, "metrics", {})
            return {f"{self.name}/{name}": (value, np.mean) for name, value in last.items()}

        return metrics

    @property
    def verl(self) -> Callable[..., dict[str, float]]:
        """For verl's `compute_score`: one response, which is judged with those of its cohort."""

        def compute_score(
            data_source: str,
            solution_str: str,
            ground_truth: Any,
            extra_info: Columns | None = None,
            **_: Any,
        ) -> dict[str, float]:
            row = self._reader.of_verl(data_source, solution_str, ground_truth, extra_info)
            return self._told_to_verl([self._cohorts.submit(row).result()])[0]

        return self._named(compute_score)

    @property
    def verl_async(self) -> Callable[..., Any]:
        """The same as a coroutine, which holds no thread while it waits."""

        async def compute_score(
            data_source: str,
            solution_str: str,
            ground_truth: Any,
            extra_info: Columns | None = None,
            **_: Any,
        ) -> dict[str, float]:
            row = self._reader.of_verl(data_source, solution_str, ground_truth, extra_info)
            return self._told_to_verl([await asyncio.wrap_future(self._cohorts.submit(row))])[0]

        return self._named(compute_score)

    @property
    def verl_batch(self) -> Callable[..., list[dict[str, float]]]:
        """For verl's older manager `batch`, which hands over all responses at once."""

        def compute_score(
            data_sources: Sequence[str],
            solution_strs: Sequence[str],
            ground_truths: Sequence[Any],
            extra_infos: Sequence[Columns],
            **_: Any,
        ) -> list[dict[str, float]]:
            given = zip(data_sources, solution_strs, ground_truths, extra_infos, strict=True)
            rows = [self._reader.of_verl(*one) for one in given]
            return self._told_to_verl(self._scorer.submit(rows).result())

        return self._named(compute_score)

    @property
    def openrlhf(self) -> Callable[..., dict[str, Any]]:
        """For OpenRLHF's `reward_func`: decoded sequences, and their prompts as rendered. One alone
        is judged with those of its cohort."""

        def reward_func(
            queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any], **_: Any
        ) -> dict[str, Any]:
            answers = list(map(answer_in, queries, prompts))
            shown = map(prompt_of, prompts)
            asked = zip(shown, answers, labels, strict=True)
            rows = [
                self._reader.required(p, answer, {"labels": label}) for p, answer, label in asked
            ]
            alone = len(rows) == 1  # as 0.11 asks
            future = self._cohorts.submit(rows[0]) if alone else self._scorer.submit(rows)
            result = future.result()
            scored = required(result if isinstance(result, list) else [result])
            rewards = [result.reward for result in scored]
            logs = [self._prefixed(result) for result in scored]
            named = {name: [one[name] for one in logs] for name in (logs or [{}])[0]}
            return {"rewards": rewards, "scores": rewards, "extra_logs": named}

        return self._named(reward_func)

    def areal(
        self,
        prompt: str,
        completions: str,
        prompt_ids: Sequence[int] = (),
        completion_ids: Sequence[int] = (),
        **data: Any,
    ) -> float:
        """AReaL's `reward_fn` of one response, which is judged alone.

        The prompt is `messages` of the data where there are such, else `prompt`. AReaL sends
        reward functions to processes, where a model cannot follow: call this from a function of a
        module of your own, in which the judge is loaded once.

        Raises:
            ValueError: it could not be judged, and why.
        """
        shown = data.get("messages") or prompt_of(prompt)
        row = self._reader.required(shown, without_end(completions), data)
        return required(self._scorer.submit([row]).result())[0].reward

    def _told_to_trl(self, results: Sequence[Result], columns: Columns) -> list[float | None]:
        """The rewards, when the trainer has its metrics."""
        if sentence := failures(results):
            log.warning(sentence)
        scored = [result if isinstance(result, Scored) else None for result in results]
        if log_metric := columns.get("log_metric"):
            for name, value in mean_metrics(results).items():
                log_metric(f"{self.name}/{name}", value)
        if log_extra := columns.get("log_extra"):
            log_extra(f"{self.name}/score", [r and r.score for r in scored])
        return [r and r.reward for r in scored]

    def _told_to_verl(self, results: Sequence[Result]) -> list[dict[str, float]]:
        return [{"score": r.reward, **self._prefixed(r)} for r in required(results)]

    def _prefixed(self, result: Scored) -> dict[str, float]:
        return {f"{self.name}_{name}": value for name, value in result.metrics().items()}

    def _named(self, function: Function) -> Function:
        function.__name__ = function.__qualname__ = self.name
        return function


def _or_nan(results: Sequence[Result]) -> list[float]:
    """The rewards; nan where there is none for a row. Raises ValueError if one has failed."""
    scored = iter(required([result for result in results if result is not None]))
    return [math.nan if result is None else next(scored).reward for result in results]
