"""The scalar baselines: `grm train scalar --objective bt|pair|cloud`, on the GRM's own backbone.

bt (BTRM): -log sigmoid(s_chosen - s_rejected) of a conversation with each response at its end.
pair (PairRM): both responses in one sequence, binary cross-entropy of "the first is better".
cloud (CLoud): as bt, but of a conversation, a response, and a critique of it that a writing model
has sampled. Pairs are the best response of an item against each other one.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from grm_jax.data.items import ItemsConfig, load_items
from grm_jax.data.pipeline import Batch, RandomAccess, TokenRow, make_stream
from grm_jax.evals.accuracy import accuracy
from grm_jax.judging.cloud import Critic, value_tokens
from grm_jax.judging.collect import collect
from grm_jax.judging.folder import model_path
from grm_jax.judging.judgment import Judgment
from grm_jax.judging.scalar import alone, pair_tokens, reward_tokens
from grm_jax.judging.sources import JudgeConfig, open_judge
from grm_jax.metric_names import CORRECT, TARGETS, TOKENS, TOO_LONG
from grm_jax.models import scalar_head
from grm_jax.models.model import Model
from grm_jax.objectives.scalar import bradley_terry_loss
from grm_jax.processes import is_first, say, wait
from grm_jax.sampling.strategy import Strategy
from grm_jax.text.messages import Example
from grm_jax.text.prompts import load_templates
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
from grm_jax.train.step import Metrics, SumLoss

STAGE = "scalar"
CRITIC = "critic"  # the critic's folder inside that of the value head
T = TypeVar("T")


@dataclass(frozen=True)
class ScalarConfig(ScorerConfig):
    """Training of a scalar judge.

    Args:
        start: whose trunk it starts from.
        objective: "bt", a reward for each response alone; "pair", a margin for two responses read
            together; "cloud", a reward for each response with a critique of it.
        items: labelled items; those of a single response have no pair and are left.
        critic: of cloud: the model folder that writes critiques (`grm train sft` makes one); by
            default the model in `start`. It goes into the written folder.
        n: of cloud: critiques of each response to learn from.
        strategy: of cloud: how critiques are drawn.
        k: judgments of each held-out item to measure with: opposite orders of pair, critiques of
            cloud; those of bt are all alike.
        rows: sequences sampled, or scored, at once.
        batch: rows x length tokens per update. A pair of bt and cloud has to fit into one row.

    Raises:
        ValueError: a value outside its range, or a critic where there is no critique.
    """

    output: str = "runs/scalar"
    start: str = "tiny-start"
    objective: Literal["bt", "pair", "cloud"] = "bt"
    items: tuple[ItemsConfig, ...] = (ItemsConfig(limit=1000),)
    critic: str | None = None
    n: int = 1
    strategy: Strategy = field(default_factory=Strategy)
    k: int = 1
    rows: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("n", "k", "rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more.")
        if self.critic is not None and self.objective != "cloud":
            raise ValueError(
                f"critic is {self.critic}, but objective is {self.objective}, which reads no "
                "critique: leave it out, or take cloud."
            )


def run(cfg: ScalarConfig) -> Path | None:
    """Samples critiques for cloud, trains and measures, or does what is left of it.

    Writes `output/model`, and beside it metrics.jsonl, report.json (accuracy on held-out items)
    and for cloud critiques.jsonl.

    Returns:
        The model folder; None if a signal ended the run early (the same command continues it).

    Raises:
        ValueError, FileNotFoundError: what does not fit, and what to do.
    """
    tokenizer, templates = begin(cfg)
    with claimed(cfg, "grm train scalar") as output:
        return _run(cfg, output, tokenizer, templates)


def _run(
    cfg: ScalarConfig, output: Path, tokenizer: Tokenizer, templates: Path | None
) -> Path | None:
    """As `run`, in a folder that is claimed."""
    items = [item for item in load_items(cfg.items, cfg.seed) if item.n > 1]
    train = [item for item in items if not is_heldout(item.id, cfg.heldout_share)]
    heldout = [item for item in items if is_heldout(item.id, cfg.heldout_share)]
    if not train or not heldout:
        raise ValueError(
            f"of {len(items)} items with two or more responses {len(train)} are to learn from and "
            f"{len(heldout)} to measure with: give more items, or another heldout_share."
        )
    rows = make_rows(cfg, train, tokenizer, templates)
    if not len(rows):
        raise ValueError("not one pair of responses can be read: their rows were all refused.")
    trained = train_scorer(
        cfg,
        label_loss if cfg.objective == "pair" else pair_loss,
        make_stream([(rows, 1.0)], cfg.batch, seed=stage_seed(cfg.seed, STAGE)),
        tokenizer,
        name=STAGE,
    )
    if trained is None:
        return None
    extra: dict[str, Any] = {"kind": cfg.objective}
    if cfg.objective == "cloud":
        extra["critic"] = CRITIC
    folder = output / "model"
    export(*trained, folder, cfg.export, cfg.start, tokenizer, templates, extra)
    if cfg.objective == "cloud" and is_first():
        shutil.copytree(model_path(cfg.critic or cfg.start), folder / CRITIC)
    wait()
    _report(cfg, output, folder, len(train), len(rows), heldout)
    return folder


def pair_loss(model: Model, *, remat: bool = False) -> SumLoss:
    """The loss of `make_step`: the summed Bradley-Terry loss of the batch's `BestAndLoser` rows."""

    def loss(params: Any, batch: Batch) -> tuple[jax.Array, jax.Array, Metrics]:
        best, positions, segments = apart(batch)
        hidden = model.hidden(params, batch.tokens, positions, segments, remat=remat)
        rejected = scalar_head.score_all(params["score"], hidden)
        chosen = jnp.take_along_axis(rejected, best, axis=1)
        value, count = bradley_terry_loss(chosen, rejected, batch.mask)
        total = count.sum()
        return (
            value.sum(),
            total,
            {
                TOKENS: jnp.sum(batch.positions >= 0),
                TARGETS: total,
                TOO_LONG: jnp.sum(batch.too_long),
                CORRECT: jnp.sum(batch.mask & (chosen > rejected)),
            },
        )

    return loss


def apart(batch: Batch) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The two sequences of each segment, apart: [B, T] each.

    Returns:
        For each token of a loser the place of the best one's last token (0 elsewhere); positions,
        which restart in the loser; segments, two for each one of the batch.
    """
    real = batch.segments > 0
    positions = jnp.where(real, batch.positions - batch.targets, -1)
    loser = real & (batch.targets > 0)
    segments = jnp.where(real, 2 * batch.segments - ~loser, 0)
    place = jnp.arange(batch.tokens.shape[1]) - positions - 1
    return jnp.where(loser, place, 0), positions, segments


@dataclass(frozen=True)
class BestAndLoser(Generic[T]):
    """Pairs as token rows for the pipeline, which packs, shuffles and drops them as one.

    A row is the better sequence and the worse one after it. Its targets are how many tokens stand
    before a token's own sequence: 0 in the better one, that one's length in the other. What is
    scored is the last token.
    """

    pairs: Sequence[tuple[T, T]]
    tokens: Callable[[T], list[int]]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> TokenRow:
        best, loser = map(self.tokens, self.pairs[index])
        # One token more, which is never fed, since a row's targets begin at its second token.
        ids = np.array([*best, *loser, 0], np.int32)
        before = np.repeat(np.array([0, len(best)], np.int32), [len(best), len(loser)])
        return TokenRow(ids, np.arange(len(ids)) == len(ids) - 1, before)


@dataclass(frozen=True)
class BothOrders:
    """Pairs (an Example, its best response, another) as rows of a PairRM, each in both orders."""

    pairs: Sequence[tuple[Example, int, int]]
    tokens: Callable[[Example, int, int], list[int]]

    def __len__(self) -> int:
        return 2 * len(self.pairs)

    def __getitem__(self, index: int) -> TokenRow:
        example, best, loser = self.pairs[index // 2]
        if index % 2:
            return scored_row(self.tokens(example, loser, best), False)
        return scored_row(self.tokens(example, best, loser), True)


def make_rows(
    cfg: ScalarConfig, items: Sequence[Example], tokenizer: Tokenizer, templates: Path | None
) -> RandomAccess[TokenRow]:
    """The rows to learn from: the best response of each item against each other one."""
    pairs = [(item, item.label or 0, i) for item in items for i in range(item.n) if i != item.label]
    template = load_templates(templates).meta
    if cfg.objective == "pair":
        return BothOrders(pairs, lambda *pair: pair_tokens(tokenizer, template, *pair))
    if cfg.objective == "bt":
        return BestAndLoser(
            [((item, best), (item, loser)) for item, best, loser in pairs],
            lambda response: reward_tokens(tokenizer, *response),
        )
    critiques = _critiques(cfg, items, templates)
    empty: tuple[Judgment, ...] = ()
    told = [
        ((one, a), (other, b))
        for item, best, loser in pairs
        for one, other in [(alone(item, best), alone(item, loser))]
        for a, b in zip(critiques.get(one.id, empty), critiques.get(other.id, empty), strict=False)
    ]
    return BestAndLoser(told, lambda response: value_tokens(tokenizer, template, *response))


def _critiques(
    cfg: ScalarConfig, items: Sequence[Example], templates: Path | None
) -> dict[str, tuple[Judgment, ...]]:
    """`n` critiques of every response alone, by the id of `alone`."""
    critic = Critic.load(
        cfg.critic or cfg.start,
        templates=None if templates is None else str(templates),
        strategy=cfg.strategy,
        seed=stage_seed(cfg.seed, STAGE),
        rows=cfg.rows,
        mesh=cfg.compute.mesh if jax.device_count() > 1 else None,
    )
    singles = [alone(item, i) for item in items for i in range(item.n)]
    path = Path(cfg.output) / "critiques.jsonl"
    found = collect(critic, singles, cfg.n, path, name="critiques")
    return {row.example.id: row.judgments for row in found}


def _report(
    cfg: ScalarConfig, output: Path, folder: Path, items: int, rows: int, heldout: list[Example]
) -> None:
    """Judges the held-out items with the written folder, and says how often it is right."""
    judge = open_judge(
        JudgeConfig(model=str(folder), strategy=cfg.strategy, rows=cfg.rows),
        str(folder),
        seed=stage_seed(cfg.seed, "heldout"),
        mesh=cfg.compute.mesh,
    )
    found = accuracy(judge.sample_all(heldout, cfg.k), cfg.k)
    path = write_report(output, {"train": {"items": items, "rows": rows}, "heldout": asdict(found)})
    told = ", ".join(
        f"{100 * e.mean:.1f} ± {100 * e.error:.1f} % at k = {k}" for k, e in found.credited.items()
    )
    without = f"; {found.unanswered} more had no answer" if found.unanswered else ""
    say(f"{path}: right on {told} ({found.items} held-out items{without}).")
