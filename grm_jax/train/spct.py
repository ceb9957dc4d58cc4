"""SPCT from end to end: `grm train spct`. One folder, one page.

RFT, GRPO and the meta RM, one on the other's model, then the evaluation of every model and a page
of what happened. A stage whose output is there and whose inputs have not changed is skipped.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from grm_jax.evals.spct_page import write_page
from grm_jax.fingerprint import fingerprint
from grm_jax.judging.folder import model_path
from grm_jax.judging.made_from import TRAINING, made_from
from grm_jax.outputs import Made, claimed_folder
from grm_jax.paths import expanded
from grm_jax.processes import from_first
from grm_jax.train import grpo, meta_rm, rft
from grm_jax.train.config import RunConfig, TrainingConfig
from grm_jax.train.evaluation import evaluate
from grm_jax.train.folder import settings_of
from grm_jax.train.stages.spct import SPCTConfig
from grm_jax.train.stamp import make_once

# What does not decide a stage's result, or decides it by its content and not by its name.
FREE = ("output", "checkpoint", "tracking", "start", "samples")
STAGES = {"rft": rft, "grpo": grpo, "meta_rm": meta_rm}


def run(run: RunConfig, cfg: SPCTConfig) -> Path | None:
    """Runs all stages, or what is left of them, and writes `output/index.html`.

    Returns:
        The page; None if a signal ended a stage early (the same command continues it).

    Raises:
        ValueError, FileNotFoundError: what does not fit, and what to do.
    """
    settings = settings_of(run, cfg)
    # Each stage has its own settings and looks whether they, or its inputs, have changed.
    made = Made("grm train spct", settings, free=tuple(settings))
    with claimed_folder(run.output, made, signs=["*/stage.json"]) as output:
        return _run(replace(run, output=str(output)), cfg, output)


def _run(run: RunConfig, cfg: SPCTConfig, output: Path) -> Path | None:
    """As `run`, in a folder that is held."""
    models = {"start": run.start}
    for name, module in STAGES.items():
        stage = _stage(cfg, name, output)
        if stage is None:
            continue
        own = replace(
            run,
            output=str(output / name),
            start=list(models.values())[-1],
            # A model that a stage has written brings its templates with it.
            templates=run.templates if len(models) == 1 else None,
        )
        folder = make_once(
            output / name, partial(stage_inputs, own, stage), partial(module.run, own, stage)
        )
        if folder is None:
            return None
        models[name] = str(output / name / "model")
    evaluation = output / "evaluation"
    shared: dict[str, Any] = {"tokenizer": run.tokenizer, "templates": run.templates}

    def inputs() -> dict[str, Any]:
        made = {name: fingerprint(model_path(model)) for name, model in models.items()}
        config = asdict(cfg.evaluation)
        files = made_from({"evaluation": config, **shared}, TRAINING)
        return {"config": config, "seed": run.seed, "files": files, **made}

    measure = partial(evaluate, cfg.evaluation, models, evaluation, seed=run.seed, **shared)
    make_once(evaluation, inputs, measure)
    return Path(from_first(lambda: str(write_page(output))))


def _stage(cfg: SPCTConfig, name: str, output: Path) -> TrainingConfig | None:
    """The settings of a stage; None if it is left out."""
    if name == "meta_rm" and cfg.meta_rm and cfg.rft and cfg.rft.n_plain:
        samples = str(output / "rft" / "samples_plain.jsonl")
        return replace(cfg.meta_rm, samples=(*cfg.meta_rm.samples, samples))
    return getattr(cfg, name)


def stage_inputs(run: RunConfig, stage: TrainingConfig) -> dict[str, Any]:
    """What a stage's result follows from: its settings, and the files that it reads."""
    settings = settings_of(run, stage)
    config = {name: value for name, value in settings.items() if name not in FREE}
    config["compute"] = {k: v for k, v in config["compute"].items() if k != "mesh"}
    # As an earlier version wrote it.
    if not run.adapter.rank:
        del config["adapter"]
    else:
        new = ("layers", "weights")
        config["adapter"] = {
            k: v for k, v in config["adapter"].items() if k not in new or v is not None
        }
    if not stage.router_loss.wanted:
        del config["router_loss"]
    return {
        "config": config,
        "start": fingerprint(model_path(run.start)),
        "files": made_from(settings | {"start": None}, TRAINING),
        "samples": [fingerprint(expanded(path)) for path in settings.get("samples", ())],
    }
