"""The bundled judge: rewards are what `grm judge` says of the same groups, whoever asks and how."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from grm_jax import Judge
from grm_jax.cli import main
from grm_jax.rewards import JudgeReward

# Two groups each; the last prompt is longer than the model.
COMPLETIONS = {
    "What is 61+21?": ["82", "81", "70", "It is 82."],
    "What is 39+48?": ["86", "77", "87", ""],
    "What is 30+20? " * 400: ["50", "51"],
}
PROMPTS = [prompt for prompt, given in COMPLETIONS.items() for _ in given]
ANSWERS = [answer for given in COMPLETIONS.values() for answer in given]
K = 4


@pytest.fixture(scope="module")
def reward() -> JudgeReward:
    return JudgeReward(Judge.load("tiny", slots=16), k=K, group=2)


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory) -> dict[tuple[str, ...], Any]:
    """What `grm judge` says, by the responses of a row."""
    folder: Path = tmp_path_factory.mktemp("judged")
    rows = [
        {"prompt": prompt, "responses": given[start : start + 2]}
        for prompt, given in COMPLETIONS.items()
        for start in range(0, len(given), 2)
    ]
    rows += [{"prompt": prompt, "responses": [given[0]]} for prompt, given in COMPLETIONS.items()]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--k", str(K), "--slots", "16", "--output", f"{folder}/verdicts.jsonl"]
    assert main(["judge", "--input", f"{folder}/rows.jsonl", *options]) == 0
    lines = map(json.loads, (folder / "verdicts.jsonl").read_text().splitlines())
    return {tuple(row["responses"]): line for row, line in zip(rows, lines, strict=True)}


@pytest.fixture(scope="module")
def expected(verdicts) -> list[float | None]:
    pairs = [tuple(ANSWERS[start : start + 2]) for start in range(0, len(ANSWERS), 2)]
    scores = [verdicts[pair].get("mean_scores", [None, None]) for pair in pairs]
    return [score for group in scores for score in group]


def test_a_call_has_the_scores_of_grm_judge(reward, verdicts, expected) -> None:
    results = reward.score(PROMPTS, ANSWERS)
    told = reward.trl(prompts=PROMPTS, completions=ANSWERS)
    assert told == expected
    assert told[-2:] == [None, None], "the prompt does not fit"
    assert None not in told[:-2]
    for i, result in enumerate(results[:-2]):
        line = verdicts[tuple(ANSWERS[i - i % 2 : i - i % 2 + 2])]
        judgments = line["judgments"]
        assert [list(j.order) for j in result.verdict.judgments] == [j["order"] for j in judgments]
        assert [j.tokens for j in result.verdict.judgments] == [j["tokens"] for j in judgments]
        assert result.verdict.margin == line["margin"]


def test_every_trainer_has_the_same(reward, verdicts, expected) -> None:
    some = slice(0, 8)
    assert reward.tunix(prompts=PROMPTS[some], completions=ANSWERS[some]) == expected[some]
    (alone,) = verdicts["82",]["mean_scores"]
    prompt = PROMPTS[0]
    told = reward.verl("sums", "82", None, {"question": prompt})
    assert told["score"] == told["grm_score"] == alone
    assert reward.openrlhf([f"{prompt}82"], [prompt], [""])["rewards"] == [alone]
    assert reward.areal(prompt, "82") == alone
    with pytest.raises(ValueError, match="this model has room for"):
        reward.areal(PROMPTS[-1], "50")


def test_threads_and_tasks_at_once_have_the_same(reward, verdicts, expected) -> None:
    """In whatever runs of the judge they end up together."""
    starts = range(0, len(ANSWERS), 2)

    def pair(start: int) -> list[float | None]:
        end = start + 2
        return reward.trl(prompts=PROMPTS[start:end], completions=ANSWERS[start:end])

    async def each() -> list[dict[str, float]]:
        asked = [(prompt, given[0]) for prompt, given in list(COMPLETIONS.items())[:2]]
        return await asyncio.gather(
            *(reward.verl_async("sums", answer, None, {"question": p}) for p, answer in asked)
        )

    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(pair, start) for start in starts]
        alone = asyncio.run(each())
        assert [score for call in calls for score in call.result()] == expected
    wanted = [verdicts[given[0],]["mean_scores"][0] for given in list(COMPLETIONS.values())[:2]]
    assert [result["score"] for result in alone] == wanted
