"""SPCT from end to end: `grm train spct`. One folder, one page.

RFT, GRPO and the meta RM, one on the other's model, then the evaluation of every model and a page
of what happened. A stage whose output is there and whose inputs have not changed is skipped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from grm_jax.data.items import ItemsConfig, load_items
from grm_jax.evals.accuracy import accuracy
from grm_jax.evals.spct_page import write_page
from grm_jax.fingerprint import fingerprint
from grm_jax.judging.collect import Rated, write_samples
from grm_jax.judging.folder import model_path
from grm_jax.judging.judge import Judge
from grm_jax.judging.made_from import TRAINING, made_from
from grm_jax.judging.meta import MetaRM
from grm_jax.judging.samples import read_samples
from grm_jax.outputs import Made, claimed_folder, write_whole
from grm_jax.paths import expanded
from grm_jax.processes import from_first, is_first, say
from grm_jax.sampling.strategy import Strategy
from grm_jax.text.messages import Example
from grm_jax.train import grpo, meta_rm, rft
from grm_jax.train.grpo import GRPOConfig
from grm_jax.train.meta_rm import MetaRMConfig
from grm_jax.train.rft import RFTConfig
from grm_jax.train.tracking import TrackingConfig

FREE = ("output", "checkpoint", "tracking", "start", "samples")


@dataclass(frozen=True)
class EvaluationConfig:
    """How every model of the pipeline is measured.

    Args:
        items: labelled items that no stage learned from.
        k: samples per item of the trained models; accuracies are for 1, 2, 4 .. k.
        k_start: samples per item of the start model.
        strategy: how tokens are drawn (temperature 1, as in training).
        rows: samples decoded at once.

    Raises:
        ValueError: a count that is not positive.
    """

    items: tuple[ItemsConfig, ...] = (ItemsConfig(split="heldout", limit=2000),)
    k: int = 32
    k_start: int = 8
    strategy: Strategy = field(default_factory=Strategy)
    rows: int = 256

    def __post_init__(self) -> None:
        for name in ("k", "k_start", "rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more.")


@dataclass(frozen=True)
class SPCTConfig:
    """The whole of SPCT. `null` in the place of `rft` or `grpo` leaves the stage out (an ablation).

    A stage's `output`, `start`, `seed`, `tokenizer` and `templates` follow from the pipeline; its
    meta RM also learns from RFT's plain judgments.

    Args:
        output: the run's folder: a folder per stage, evaluation/, index.html.
        start: the model that it all starts from.
        seed: of every stage.
        tracking: of every stage.

    Raises:
        ValueError: a value that the pipeline sets itself.
    """

    output: str = "runs/spct"
    start: str = "tiny-start"
    tokenizer: str | None = None
    templates: str | None = None
    rft: RFTConfig | None = field(default_factory=RFTConfig)
    grpo: GRPOConfig | None = field(default_factory=GRPOConfig)
    meta_rm: MetaRMConfig | None = field(default_factory=MetaRMConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    seed: int = 0
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed is {self.seed}; give 0 to {2**31 - 1}.")
        for name in ("rft", "grpo", "meta_rm"):
            stage = getattr(self, name)
            for shared in ("output", "start", "tokenizer", "templates", "seed", "tracking"):
                if stage is not None and getattr(stage, shared) != getattr(type(stage)(), shared):
                    raise ValueError(
                        f"{name}.{shared} is set, but in the pipeline it follows from {shared}: "
                        "set that."
                    )


def run(cfg: SPCTConfig) -> Path | None:
    """Runs all stages, or what is left of them, and writes `output/index.html`.

    Returns:
        The page; None if a signal ended a stage early (the same command continues it).

    Raises:
        ValueError, FileNotFoundError: what does not fit, and what to do.
    """
    settings = asdict(cfg)
    # Each stage has its own settings and looks whether they, or its inputs, have changed.
    made = Made("grm train spct", settings, free=tuple(settings))
    with claimed_folder(cfg.output, made, signs=["*/stage.json"]) as output:
        return _run(replace(cfg, output=str(output)), output)


def _run(cfg: SPCTConfig, output: Path) -> Path | None:
    """As `run`, in a folder that is claimed."""
    models = {"start": cfg.start}
    for name, train in (("rft", rft.run), ("grpo", grpo.run), ("meta_rm", meta_rm.run)):
        stage = _stage(cfg, name, models)
        if stage is None:
            continue
        folder = _once(output / name, partial(_inputs, stage), partial(train, stage))
        if folder is None:
            return None
        models[name] = str(output / name / "model")
    evaluation = output / "evaluation"

    def inputs() -> dict[str, Any]:
        made = {name: fingerprint(model_path(model)) for name, model in models.items()}
        config = asdict(cfg.evaluation)
        shared = {"tokenizer": cfg.tokenizer, "templates": cfg.templates}
        files = made_from({"evaluation": config, **shared}, TRAINING)
        return {"config": config, "seed": cfg.seed, "files": files, **made}

    _once(evaluation, inputs, lambda: _evaluate(cfg, models, evaluation))
    return Path(from_first(lambda: str(write_page(output))))


def _stage(cfg: SPCTConfig, name: str, models: dict[str, str]) -> Any | None:
    """The stage's config with what follows from the pipeline; None if it is left out."""
    stage = getattr(cfg, name)
    if stage is None:
        return None
    extra: dict[str, Any] = {}
    if name == "meta_rm" and (cfg.rft and cfg.rft.n_plain):
        extra["samples"] = (*stage.samples, str(Path(cfg.output) / "rft" / "samples_plain.jsonl"))
    return replace(
        stage,
        output=str(Path(cfg.output) / name),
        start=list(models.values())[-1],
        tokenizer=cfg.tokenizer,
        # A model that a stage has written brings its templates with it.
        templates=cfg.templates if len(models) == 1 else None,
        seed=cfg.seed,
        tracking=cfg.tracking,
        **extra,
    )


def _inputs(stage: Any) -> dict[str, Any]:
    """What a stage's result follows from: its config, and the files that it reads."""
    config = {name: value for name, value in asdict(stage).items() if name not in FREE}
    config["compute"] = {k: v for k, v in config["compute"].items() if k != "mesh"}
    return {
        "config": config,
        "start": fingerprint(model_path(stage.start)),
        "files": made_from(asdict(stage) | {"start": None}, TRAINING),
        "samples": [fingerprint(expanded(path)) for path in getattr(stage, "samples", ())],
    }


def _once(
    folder: Path, inputs: Callable[[], dict[str, Any]], make: Callable[[], Path | None]
) -> Path | None:
    """Makes a folder's content unless it is there from the same inputs.

    What was made from other inputs is kept beside it under another name, never deleted. The file
    stage.json says what it was made from, and how long it took, over all its parts.
    """
    if from_first(lambda: _is_there(folder, inputs())):
        say(f"{folder} is there.")
        return folder
    began = time.monotonic()
    made = make()
    if is_first():
        _stamp(folder, seconds=time.monotonic() - began, done=made is not None)
    return made


def _is_there(folder: Path, inputs: dict[str, Any]) -> bool:
    """Whether a folder was made from these inputs; if not, it is ready to be when this returns."""
    inputs = json.loads(json.dumps(inputs))
    stamp = folder / "stage.json"
    before = _read_stamp(stamp) if stamp.exists() else None
    # What an earlier version did not write down is not held against it.
    known = before["inputs"] if before is not None else {}
    if any(known.get(name, value) != value for name, value in inputs.items()):
        aside = next(
            path
            for path in (folder.with_name(f"{folder.name}.{i}") for i in range(1, 10_000))
            if not path.exists()
        )
        folder.rename(aside)
        say(f"{folder} was made from other inputs: it is now {aside}.")
        before = None
    if before is not None and before["done"]:
        return True
    if before is None:
        folder.mkdir(parents=True, exist_ok=True)
        _write_stamp(stamp, {"done": False, "seconds": 0.0, "inputs": inputs})
    return False


def _stamp(folder: Path, *, seconds: float, done: bool) -> None:
    """Writes down that a folder took so many seconds more, and whether that was all."""
    stamp = folder / "stage.json"
    before = _read_stamp(stamp)
    _write_stamp(stamp, {**before, "done": done, "seconds": before["seconds"] + seconds})


def _read_stamp(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if {"done", "seconds", "inputs"} <= set(found):
            return found
    except (ValueError, TypeError):
        pass
    raise ValueError(
        f"{path} is empty or damaged; it says what {path.parent} was made from. Move that folder "
        "away, or give another output."
    )


def _write_stamp(path: Path, content: dict[str, Any]) -> None:
    write_whole(path, json.dumps(content, indent=1))


def _evaluate(cfg: SPCTConfig, models: dict[str, str], folder: Path) -> Path:
    """Measures every model that writes, with and without the meta RM. Writes report.json."""
    items = [item for item in load_items(cfg.evaluation.items, cfg.seed) if item.n > 1]
    meta = MetaRM.load(models["meta_rm"], rows=cfg.evaluation.rows) if "meta_rm" in models else None
    writers = {name: model for name, model in models.items() if name != "meta_rm"}
    report: dict[str, Any] = {"items": len(items), "k": cfg.evaluation.k, "stages": {}}
    for name, model in writers.items():
        k = cfg.evaluation.k_start if name == "start" else cfg.evaluation.k
        greedy = replace(cfg.evaluation.strategy, temperature=0.0)
        report["stages"][name] = {
            "voting": _measure(cfg, model, items, k, folder / f"{name}.jsonl", None, meta),
            "greedy": _measure(cfg, model, items, 1, folder / f"{name}_greedy.jsonl", greedy, None),
        }
    if is_first():
        write_whole(folder / "report.json", json.dumps(report, indent=1) + "\n")
    return folder


def _measure(
    cfg: SPCTConfig,
    model: str,
    items: list[Example],
    k: int,
    path: Path,
    strategy: Strategy | None,
    meta: MetaRM | None,
) -> dict[str, Any]:
    """The accuracies of one model, and the file with every judgment."""
    judge = Judge.load(
        model,
        tokenizer=cfg.tokenizer,
        templates=cfg.templates,
        strategy=strategy or cfg.evaluation.strategy,
        seed=cfg.seed,
        rows=cfg.evaluation.rows,
    )
    source = judge if meta is None else Rated(judge, meta)
    write_samples(source, items, k, path, name=path.stem, total=len(items))
    return accuracy(read_samples(path), k).to_json()
