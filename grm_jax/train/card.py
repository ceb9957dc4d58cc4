"""The model card of an exported model, from the record of the run that made it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from grm_jax import __version__
from grm_jax.outputs import read_mark
from grm_jax.text.files import is_hub_id
from grm_jax.train.tracking import read_metrics

RECORD = "config.yaml"
WHAT = {
    "grm": "A generative reward model: it writes principles and a critique, and then a score for "
    "each response.",
    "judge": "A generative judge: it writes a critique, and then the number of the best response.",
    "token-prob": "A generative judge, read by the probabilities of the number that it chooses.",
    "bt": "A scalar reward model (Bradley-Terry): one reward for a conversation with a response.",
    "pair": "A scalar reward model of pairs: a margin for two responses read together.",
    "cloud": "A scalar reward model that reads a response with a critique of it (CLoud).",
    "meta": "A meta reward model: it tells right judgments of a generative reward model from wrong "
    "ones, so that the better ones can be summed.",
}
# The settings that say what a run learned from, wherever they stand; and those not worth a reader.
DATA = ("items", "data", "general", "samples")
PRIVATE = ("output", "tracking", "checkpoint")


@dataclass(frozen=True)
class RunRecord:
    """What a run's folder says of it.

    Attributes:
        command: such as "grm train grpo"; "" where an old run does not say.
        settings: all of them.
        versions: of the libraries, by name.
        metrics: of the last step.
        report: what was measured on held-out items.
    """

    command: str
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    metrics: Mapping[str, Any]
    report: Mapping[str, Any]


def read_record(run: Path) -> RunRecord | None:
    """The record in a run's folder; None where there is none.

    Raises:
        ValueError: it is damaged.
    """
    mark = run / RECORD
    if not mark.is_file():
        return None
    settings, facts = read_mark(mark, run)
    logs = [run / "metrics.jsonl", *(run / name / "metrics.jsonl" for name in _stages(settings))]
    steps = [read_metrics(log) for log in logs if log.is_file()]
    report = run / "report.json"
    return RunRecord(
        facts.get("command") or "",
        settings,
        facts.get("versions") or {},
        steps[-1][-1] if steps and steps[-1] else {},
        json.loads(report.read_text("utf-8")) if report.is_file() else {},
    )


def _stages(settings: Mapping[str, Any]) -> list[str]:
    stages = settings.get("stages")
    return list(stages) if isinstance(stages, Mapping) else []


def model_card(name: str, kind: str, base: str | None, record: RunRecord | None) -> str:
    """The text of README.md.

    Args:
        name: of the folder.
        kind: of judge, or "meta".
        base: the model that an adapter is for; None for a whole model.
        record: of the run that made it, if it is known.
    """
    parts = [
        "---",
        _yaml(_head(kind, base, record)).strip(),
        "---",
        "",
        f"# {name}",
        "",
        WHAT[kind],
    ]
    if base is not None:
        parts += ["", f"It is a LoRA adapter in PEFT's layout for `{base}`."]
    parts += ["", "## Use", "", *_use(name, kind), "", "## Training", ""]
    parts += _training(record) if record else ["How it was trained is not recorded beside it."]
    return "\n".join(parts) + "\n"


def _head(kind: str, base: str | None, record: RunRecord | None) -> dict[str, Any]:
    """The card's metadata, in the hub's names."""
    writes = kind in ("grm", "judge", "token-prob")
    start = base or (record.settings.get("start") if record else None)
    head: dict[str, Any] = {
        "library_name": "transformers" if base is None else "peft",
        "pipeline_tag": "text-generation" if writes else "text-classification",
        "tags": ["reward-model", "grm_jax", *(["lora"] if base is not None else [])],
    }
    # A path means nothing to others.
    known = isinstance(start, str) and is_hub_id(start) and not Path(start).exists()
    return {"base_model": start, **head} if known else head


def _use(name: str, kind: str) -> list[str]:
    option = "--meta-rm" if kind == "meta" else "--model"
    command = ["```", f"grm judge {option} {name} --input rows.jsonl", "```"]
    if kind not in ("grm", "judge"):
        return command
    return [
        "```python",
        "from grm_jax import Example, Judge",
        "",
        f'judge = Judge.load("{name}")',
        'verdict = judge(Example(prompt="What is 37+45?", responses=["82", "81"]), k=8)',
        "```",
        "",
        *command,
    ]


def _training(record: RunRecord) -> list[str]:
    settings, stages = record.settings, record.settings.get("stages")
    facts: dict[str, Any] = {
        "command": f"`{record.command}`" if record.command else None,
        "began from": _code(settings.get("start")),
        "learned from": "; ".join(dict.fromkeys(_sources(settings))),
        "steps": _steps(settings, stages),
        "learning rate": _rates(settings, stages),
        "adapter": _adapter(settings.get("adapter")),
        "seed": settings.get("seed"),
        "versions": ", ".join(f"{name} {number}" for name, number in record.versions.items()),
        "exported with": f"grm_jax {__version__}",
    }
    rows = [f"| {name} | {value} |" for name, value in facts.items() if value not in (None, "")]
    parts = ["| | |", "|---|---|", *rows]
    if record.metrics:
        last = {
            name: round(x, 6) for name, x in record.metrics.items() if isinstance(x, int | float)
        }
        parts += ["", "Metrics of the last step:", "", "```yaml", _yaml(last).strip(), "```"]
    if record.report:
        text = json.dumps(record.report, indent=1)
        parts += ["", "What the run reported (`report.json`):", "", "```json", text, "```"]
    public = {name: value for name, value in settings.items() if name not in PRIVATE}
    return [*parts, "", "All settings:", "", "```yaml", _yaml(public).strip(), "```"]


def _sources(value: Any, inside: bool = False) -> Iterator[str]:
    """The sources that the settings name as data, each with its split."""
    if isinstance(value, Mapping):
        if inside and isinstance(value.get("source"), str):
            split = value.get("split")
            yield f"`{value['source']}`" + (f" ({split})" if split else "")
        for name, inner in value.items():
            yield from _sources(inner, inside or name in DATA)
    elif isinstance(value, list):
        for inner in value:
            yield from _sources(inner, inside)
    elif inside and isinstance(value, str) and value.endswith(".jsonl"):
        yield f"`{value}`"


def _steps(settings: Mapping[str, Any], stages: Any) -> Any:
    if isinstance(stages, Mapping):
        return ", ".join(f"{stage['steps']} ({name})" for name, stage in stages.items())
    return settings.get("steps")


def _rates(settings: Mapping[str, Any], stages: Any) -> str:
    each = stages.values() if isinstance(stages, Mapping) else [settings]
    rates = [stage.get("optimizer", {}).get("learning_rate") for stage in each]
    return ", ".join(str(rate) for rate in rates if rate is not None)


def _adapter(adapter: Any) -> str | None:
    if not isinstance(adapter, Mapping) or not adapter.get("rank"):
        return None
    return f"LoRA of rank {adapter['rank']}, alpha {adapter['alpha']:g}"


def _code(value: Any) -> str | None:
    return None if value is None else f"`{value}`"


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000)
