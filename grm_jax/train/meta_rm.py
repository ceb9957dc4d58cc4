"""The meta RM: `grm train meta-rm`, a scalar model that tells right judgments from wrong ones.

Pointwise binary cross-entropy on equation 10's label, from judgments that were sampled without a
hint: those of rejective fine-tuning, and fresh ones of the GRM that it will guide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from grm_jax.data.items import ItemsConfig, load_items
from grm_jax.data.pipeline import TokenRow, make_stream
from grm_jax.evals.ranking import Ranking, rank
from grm_jax.judging.collect import collect
from grm_jax.judging.folder import load_model_folder
from grm_jax.judging.judgment import Sampled
from grm_jax.judging.meta import MetaRM, meta_tokens
from grm_jax.judging.reward import is_correct
from grm_jax.judging.samples import read_samples
from grm_jax.judging.sources import JudgeConfig, open_judge
from grm_jax.processes import say
from grm_jax.text.prompts import Template, load_templates
from grm_jax.text.tokenizer import Tokenizer
from grm_jax.train.folder import claimed
from grm_jax.train.scorer import (
    ScorerConfig,
    begin,
    is_heldout,
    label_loss,
    scored_row,
    train_scorer,
    write_report,
)
from grm_jax.train.sft import export, stage_seed

STAGE = "meta_rm"


@dataclass(frozen=True)
class MetaRMConfig(ScorerConfig):
    """Training of the meta RM.

    Args:
        start: whose trunk it starts from: the GRM that it will guide, or another model.
        samples: files of judgments that are there already (RFT's samples_plain.jsonl).
        items: labelled items for fresh judgments, `n` each by `judge`.
        judge: the GRM that it will guide; by default the model in `start`.
        n: fresh judgments per item (0: none).
        supervise: "last", the score at the judgment's last token alone, which is what is used; or
            "all", the scores at all its tokens (a verifier as of Cobbe et al., arXiv 2110.14168:
            many more places where an error can be noticed).
        balance: "natural", right and wrong judgments as they come; or "equal", as many of each.

    Raises:
        ValueError: a value outside its range.
    """

    output: str = "runs/meta_rm"
    samples: tuple[str, ...] = ()
    items: tuple[ItemsConfig, ...] = (ItemsConfig(limit=1000),)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    n: int = 4
    supervise: Literal["last", "all"] = "last"
    balance: Literal["natural", "equal"] = "natural"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n < 0 or (not self.n and not self.samples):
            raise ValueError(
                f"n is {self.n} and samples names {len(self.samples)} files: the meta RM learns "
                "from judgments: give fresh ones, files, or both."
            )


def run(cfg: MetaRMConfig) -> Path | None:
    """Samples, trains and measures, or does what is left of it; writes `output/model`.

    Beside it: samples.jsonl (fresh judgments), metrics.jsonl, report.json (class balance, and on
    held-out items AUC overall and within an item, calibration).

    Returns:
        The model folder; None if a signal ended the run early (the same command continues it).

    Raises:
        ValueError, FileNotFoundError: what does not fit, and what to do.
    """
    tokenizer, templates = begin(cfg)
    with claimed(cfg, "grm train meta-rm") as output:
        return _run(cfg, output, tokenizer, templates)


def _run(
    cfg: MetaRMConfig, output: Path, tokenizer: Tokenizer, templates: Path | None
) -> Path | None:
    """As `run`, in a folder that is claimed."""
    found = list(_judgments(cfg, output, templates))
    sides: dict[bool, list[Sampled]] = {True: [], False: []}
    for sampled in found:
        sides[is_heldout(sampled.example.id, cfg.heldout_share)].append(sampled)
    prompt = load_templates(templates).meta
    rows = [
        ScoredRows(sides[False], tokenizer, prompt, label, cfg.supervise == "all")
        for label in _labels(cfg)
    ]
    _check_classes(sides[False])
    stream = make_stream(
        [(part, 1.0) for part in rows], cfg.batch, seed=stage_seed(cfg.seed, STAGE)
    )
    trained = train_scorer(cfg, label_loss, stream, tokenizer, name=STAGE)
    if trained is None:
        return None
    folder = export(*trained, output / "model", cfg.export, cfg.start, tokenizer, templates)
    _report(cfg, output, folder, sides)
    return folder


class ScoredRows:
    """Judgments as token rows for the pipeline: what the meta RM reads, and the label as target.

    Args:
        label: only judgments with this label; None takes both.
        everywhere: the label is the target at every token of the judgment, not at the last alone.
    """

    def __init__(
        self,
        sampled: Sequence[Sampled],
        tokenizer: Tokenizer,
        template: Template,
        label: bool | None = None,
        everywhere: bool = False,
    ):
        self.everywhere = everywhere
        self.sampled, self.tokenizer, self.template = sampled, tokenizer, template
        self.places = [
            (i, j, right)
            for i, row in enumerate(sampled)
            for j, right in enumerate(labels(row))
            if right is not None and label in (None, right)
        ]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> TokenRow:
        i, j, right = self.places[index]
        row = self.sampled[i]
        request, written = meta_tokens(self.tokenizer, self.template, row.example, row.judgments[j])
        first = len(request) if self.everywhere else None
        return scored_row([*request, *written], right, first)


def labels(sampled: Sampled) -> list[bool | None]:
    """Whether each judgment is right by equation 10; None if it has no scores and cannot count."""
    label = sampled.example.label
    assert label is not None
    return [None if j.scores is None else is_correct(j.scores, label) for j in sampled.judgments]


def _judgments(cfg: MetaRMConfig, output: Path, templates: Path | None) -> Iterator[Sampled]:
    """Those of the files, then fresh ones."""
    for path in cfg.samples:
        yield from (row for row in read_samples(Path(path)) if isinstance(row, Sampled))
    if cfg.n:
        judge = open_judge(
            cfg.judge,
            cfg.start,
            seed=stage_seed(cfg.seed, STAGE),
            templates=None if templates is None else str(templates),
            mesh=cfg.compute.mesh,
        )
        items = load_items(cfg.items, cfg.seed)
        yield from collect(judge, items, cfg.n, output / "samples.jsonl", name="meta-rm samples")


def _labels(cfg: MetaRMConfig) -> tuple[bool | None, ...]:
    """One source of rows, or one for each label."""
    return (None,) if cfg.balance == "natural" else (False, True)


def _check_classes(train: Iterable[Sampled]) -> None:
    classes = {right for row in train for right in labels(row)}
    if not {True, False} <= classes:
        raise ValueError(
            "the judgments to learn from are all right, all wrong or all unreadable: sample more "
            "items, or at a higher temperature."
        )


def _report(
    cfg: MetaRMConfig, output: Path, folder: Path, sides: dict[bool, list[Sampled]]
) -> None:
    """Rates the held-out judgments with the written model, and says how well."""
    judge = MetaRM(load_model_folder(folder), rows=cfg.judge.rows)
    rated = [row for row in judge.rate_all(sides[True]) if isinstance(row, Sampled)]
    ranking = rank([(_rated(row)) for row in rated])
    train = [right for row in sides[False] for right in labels(row) if right is not None]
    report = {
        "train": {
            "items": len(sides[False]),
            "judgments": len(train),
            "right_share": float(np.mean(train)),
            "balance": cfg.balance,
        },
        "heldout": asdict(ranking),
    }
    path = write_report(output, report)
    say(f"{path}: {describe(ranking)}")


def _rated(row: Sampled) -> list[tuple[float, bool]]:
    """(meta score, whether it is right) of every judgment that has both."""
    return [
        (j.meta, right)
        for j, right in zip(row.judgments, labels(row), strict=True)
        if right is not None and j.meta is not None
    ]


def describe(ranking: Ranking) -> str:
    """One sentence on a meta RM."""
    return (
        f"AUC {ranking.auc:.3f} over {ranking.judgments} held-out judgments, within an item "
        f"{ranking.auc_within:.3f} ± {ranking.auc_within_error:.3f} ({ranking.mixed_items} items "
        f"with right and wrong ones), calibration error {ranking.calibration_error:.3f}."
    )
