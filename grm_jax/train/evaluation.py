"""How every model of an SPCT run is measured: Voting@k and MetaRM@k on items of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from grm_jax.data.items import load_items
from grm_jax.evals.items import measure_items
from grm_jax.judging.collect import Rated, write_samples
from grm_jax.judging.judge import Judge
from grm_jax.judging.meta import MetaRM
from grm_jax.judging.samples import SampleSource, read_samples
from grm_jax.outputs import write_whole
from grm_jax.processes import is_first
from grm_jax.text.messages import Example
from grm_jax.train.stages.spct import EvaluationConfig


def evaluate(
    cfg: EvaluationConfig,
    models: Mapping[str, str],
    folder: Path,
    *,
    tokenizer: str | None,
    templates: str | None,
    seed: int,
) -> Path:
    """Measures every model that writes, with and without the meta RM; writes report.json."""
    items = [item for item in load_items(cfg.items, seed) if item.n > 1]
    meta = MetaRM.load(models["meta_rm"], slots=cfg.slots) if "meta_rm" in models else None
    load = partial(Judge.load, tokenizer=tokenizer, templates=templates, seed=seed, slots=cfg.slots)
    greedy = replace(cfg.strategy, temperature=0.0)

    def sampler(model: str) -> SampleSource:
        judge = load(model, strategy=cfg.strategy)
        return judge if meta is None else Rated(judge, meta)

    stages: dict[str, Any] = {}
    for name in (name for name in models if name != "meta_rm"):
        model, k = models[name], cfg.k_start if name == "start" else cfg.k
        # Only the call that measures a judge holds it: one model at a time.
        stages[name] = {
            "voting": _measure(sampler(model), items, k, folder / f"{name}.jsonl"),
            "greedy": _measure(
                load(model, strategy=greedy), items, 1, folder / f"{name}_greedy.jsonl"
            ),
        }
    if is_first():
        report = {"items": len(items), "k": cfg.k, "stages": stages}
        write_whole(folder / "report.json", json.dumps(report, indent=1) + "\n")
    return folder


def _measure(source: SampleSource, items: Sequence[Example], k: int, path: Path) -> dict[str, Any]:
    """The accuracies of a judge, which writes every judgment to the file."""
    write_samples(source, items, k, path, name=path.stem, total=len(items))
    return asdict(measure_items(read_samples(path), k))
