"""What is disturbed: one command of each kind that writes, small enough to be run many times."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

RFT = """
items: [{limit: 24}]
judge: {slots: 16}
general: [{source: answers}]
general_share: 0.2
steps: 4
batch: {sequences: 8, length: 128}
checkpoint: {every: 2}
"""
GRPO = """
items: [{start: 100, limit: 24}]
filter: {n: 2, judge: {slots: 16}}
per_step: 16
steps: 4
slots: 16
checkpoint: {every: 2}
"""
META_RM = """
items: [{start: 200, limit: 16}]
judge: {slots: 16}
n: 4
heldout_share: 0.4
steps: 4
batch: {sequences: 8, length: 128}
checkpoint: {every: 2}
"""
SFT = """
start: tiny-start
stages:
  first: {steps: 9, data: [{source: world}], optimizer: {learning_rate: 1.0e-4}}
batch: {sequences: 4, length: 128}
checkpoint: {every: 2, keep: 2}
"""
EVALUATION = "evaluation: {items: [{split: heldout, limit: 12}], k: 4, k_start: 2, slots: 16}\n"


def _nested(name: str, text: str) -> str:
    return f"{name}:\n" + "".join(f"  {line}\n" for line in text.strip().splitlines())


SPCT = _nested("rft", RFT) + _nested("grpo", GRPO) + _nested("meta_rm", META_RM) + EVALUATION


@dataclass(frozen=True)
class Scene:
    """A command by its arguments for an output folder, and how many of the kills it gets."""

    name: str
    arguments: Callable[[Path], list[str]]
    kills: int


def scenes(work: Path) -> dict[str, Scene]:
    """The commands, their inputs written into the folder `work`."""
    work.mkdir(parents=True, exist_ok=True)
    rows = work / "rows.jsonl"
    rows.write_text("".join(_row(i) for i in range(60)))
    configs = {"rft": RFT, "grpo": GRPO, "meta-rm": META_RM, "spct": SPCT, "sft": SFT}
    for name, text in configs.items():
        (work / f"{name}.yaml").write_text(text)

    def judge(output: Path) -> list[str]:
        options = ["--k", "4", "--slots", "16", "--meta-rm", "tiny-meta"]
        return ["judge", "--input", str(rows), "--output", str(output / "v.jsonl"), *options]

    def evaluate(output: Path) -> list[str]:
        options = ["--limit", "40", "--k", "4", "--slots", "16"]
        return ["eval", "--benchmark", "world", *options, "--output", str(output)]

    def train(stage: str) -> Callable[[Path], list[str]]:
        config = ["--config", str(work / f"{stage}.yaml")]
        return lambda output: ["train", stage, *config, "--output", str(output)]

    kills = {"rft": 9, "grpo": 9, "meta-rm": 8, "spct": 8, "sft": 4}
    return {
        "judge": Scene("judge", judge, 8),
        "eval": Scene("eval", evaluate, 8),
        **{name: Scene(name, train(name), count) for name, count in kills.items()},
    }


def _row(number: int) -> str:
    """A sum, its answer and a near miss; now and then a row that cannot be judged."""
    a, b = 11 + number, 17 + 7 * number % 60
    row = {"id": number, "prompt": f"What is {a}+{b}?", "responses": [str(a + b), str(a + b + 1)]}
    return json.dumps(row | ({"responses": []} if number % 20 == 7 else {})) + "\n"
