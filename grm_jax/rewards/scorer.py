"""`Scorer`: rows in, a reward for each or the reason why there is none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from grm_jax.judging.judge import Judge
from grm_jax.judging.judgment import Refusal, Verdict, check_samples
from grm_jax.judging.principles import GivenPrinciples
from grm_jax.rewards.rows import Group, Row, grouped
from grm_jax.rewards.scale import Scale, rewards_of
from grm_jax.rewards.together import Together
from grm_jax.text.messages import Example


@dataclass(frozen=True)
class Scored:
    """A completion that was judged.

    Attributes:
        reward: on the chosen scale.
        score: the mean of its scores.
        verdict: on the group that it was judged in.
    """

    reward: float
    score: float
    verdict: Verdict

    def metrics(self) -> dict[str, float]:
        """Its mean score; the share of the group's judgments that could not be read; how far the
        best of the group is ahead, in score points; the tokens written per response."""
        verdict = self.verdict
        written = sum(judgment.tokens for judgment in verdict.judgments)
        return {
            "score": self.score,
            "invalid": 1 - verdict.valid / verdict.k,
            "margin": verdict.margin,
            "tokens": written / len(verdict.scores),
        }


# None: there is no reward for such a row.
Result = Scored | Refusal | None


class Scorer:
    """Judges the completions of each prompt together, in groups of at most `group`.

    k, group, scale: as for `JudgeReward`. given: gives principles to rows without their own.

    Raises:
        ValueError: one of them is out of its range.
    """

    def __init__(
        self,
        judge: Judge,
        *,
        k: int,
        group: int,
        scale: Scale,
        given: GivenPrinciples | None = None,
    ):
        check_samples(k)
        if group < 1 or (group == 1 and scale in ("rank", "best")):
            raise ValueError(
                f"group is {group} and the scale {scale!r}: a group has at least one response, and "
                "two where responses are compared."
            )
        self._judge, self._group = judge, group
        self._scale: Scale = scale

        def judge_all(examples: Iterable[Example]) -> Iterator[Verdict | Refusal]:
            if given is None:
                return judge.judge_all(examples, k)
            shown = given.give(list(examples))
            for example in shown:
                given.count(example, k)
            return judge.judge_all(shown, k)

        self._together = Together(judge_all)

    def submit(self, rows: Sequence[Row | None]) -> Future[list[Result]]:
        """What became of each row; None of one for which there is no reward.

        Raises in the future:
            ValueError: the scale compares responses, and one stands alone.
        """
        groups = self._groups(rows)
        future: Future[list[Result]] = Future()

        def finish(judged: Future[list[Verdict | Refusal]]) -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(self._spread(groups, judged.result(), len(rows)))
            except BaseException as error:
                future.set_exception(error)

        self._together.submit(_examples(groups)).add_done_callback(finish)
        return future

    def _groups(self, rows: Sequence[Row | None]) -> list[Group]:
        return grouped({i: row for i, row in enumerate(rows) if row is not None}, self._group)

    def _spread(
        self, groups: Sequence[Group], verdicts: Sequence[Verdict | Refusal], rows: int
    ) -> list[Result]:
        results: list[Result] = [None] * rows
        left = iter(verdicts)
        for group in groups:
            judged = next(left) if isinstance(group.example, Example) else group.example
            for number, result in zip(group.rows, self._results(judged, group), strict=True):
                results[number] = result
        return results

    def _results(self, judged: Verdict | Refusal, group: Group) -> Sequence[Result]:
        if isinstance(judged, Refusal):
            return [judged] * len(group.rows)
        template = self._judge.asking.template(len(group.rows))
        low, high = (0, 1) if template.chooses else (template.low, template.high)
        rewards = rewards_of(judged, self._scale, low, high)
        return [
            Scored(reward, score, judged)
            for reward, score in zip(rewards, judged.mean_scores, strict=True)
        ]


def _examples(groups: Sequence[Group]) -> list[Example]:
    return [group.example for group in groups if isinstance(group.example, Example)]


def required(results: Sequence[Result]) -> list[Scored]:
    """The results of rows that must have a reward.

    Raises:
        ValueError: some could not be judged; how many, and why the first.
    """
    if sentence := failures(results):
        raise ValueError(sentence)
    return [result for result in results if isinstance(result, Scored)]


def failures(results: Sequence[Result]) -> str:
    """How many results are failures, and why the first; "" if there are none."""
    refusals = [result for result in results if isinstance(result, Refusal)]
    if not refusals:
        return ""
    return (
        f"{len(refusals)} of {len(results)} completions could not be judged and have no reward; "
        f"the first: {refusals[0].error}"
    )


def mean_metrics(results: Sequence[Result]) -> Mapping[str, float]:
    """The means of what `Scored.metrics` says, over the completions with a reward, and the share
    of those that could not be judged; nothing where there was nothing to judge."""
    wanted = [result for result in results if result is not None]
    if not wanted:
        return {}
    scored = [result.metrics() for result in wanted if isinstance(result, Scored)]
    means = {name: sum(m[name] for m in scored) / len(scored) for name in (scored or [{}])[0]}
    return means | {"failed": 1 - len(scored) / len(wanted)}
