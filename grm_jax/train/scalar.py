"""The scalar baselines: `grm train scalar --objective bt|pair|cloud`, on the GRM's own backbone.

bt (BTRM): -log sigmoid(s_chosen - s_rejected) of a conversation with each response at its end.
pair (PairRM): both responses in one sequence, binary cross-entropy of "the first is better".
cloud (CLoud): as bt, but of a conversation, a response, and a critique of it that a writing model
has sampled. Pairs are the best response of an item against each other one.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from grm_jax.copies import share
from grm_jax.data.items import load_items
from grm_jax.data.pipeline import Batch, RandomAccess, TokenRow, make_stream
from grm_jax.evals.items import measure_items
from grm_jax.judging.cloud import Critic
from grm_jax.judging.collect import collect
from grm_jax.judging.config import JudgeConfig
from grm_jax.judging.folder import model_path
from grm_jax.judging.judgment import Judgment
from grm_jax.judging.meta import meta_reading
from grm_jax.judging.scalar import alone, pair_tokens, reward_tokens
from grm_jax.judging.sources import open_judge
from grm_jax.metric_names import CORRECT, TARGETS, TOKENS, TOO_LONG
from grm_jax.models import scalar_head
from grm_jax.models.config import Remat
from grm_jax.models.model import Model
from grm_jax.objectives.config import RouterLossConfig
from grm_jax.objectives.routing import watched_hidden, with_router_loss
from grm_jax.objectives.scalar import bradley_terry_loss
from grm_jax.processes import is_first, say
from grm_jax.text.messages import Example
from grm_jax.train.config import RunConfig
from grm_jax.train.export import export
from grm_jax.train.run import Run, open_run
from grm_jax.train.scorer import is_heldout, label_loss, scored_row, train_scorer, write_report
from grm_jax.train.stages.scorer import ScalarConfig
from grm_jax.train.step import Metrics, SumLoss

STAGE = "scalar"
CRITIC = "critic"  # the critic's folder inside that of the value head
T = TypeVar("T")


def run(run: RunConfig, cfg: ScalarConfig) -> Path | None:
    """Samples critiques for cloud, trains and measures, or does what is left of it.

    Writes `output/model`, and beside it metrics.jsonl, report.json (accuracy on held-out items)
    and for cloud critiques.jsonl.

    Returns:
        The model folder; None if a signal ended the run early (the same command continues it).

    Raises:
        ValueError, FileNotFoundError: what does not fit, and what to do.
    """
    with open_run("grm train scalar", run, cfg, sequences=cfg.batch.sequences) as opened:
        return _run(opened, cfg)


def _run(run: Run, cfg: ScalarConfig) -> Path | None:
    """As `run`, in an open run."""
    items = [item for item in load_items(cfg.items, run.config.seed) if item.n > 1]
    train = [item for item in items if not is_heldout(item.id, cfg.heldout_share)]
    heldout = [item for item in items if is_heldout(item.id, cfg.heldout_share)]
    if not train or not heldout:
        raise ValueError(
            f"of {len(items)} items with two or more responses {len(train)} are to train on and "
            f"{len(heldout)} to measure on: give more items, or another heldout_share."
        )
    rows = make_rows(run, cfg, train)
    if not len(rows):
        raise ValueError("not one pair of responses can be read: their rows were all refused.")
    loss = label_loss if cfg.objective == "pair" else pair_loss
    stream = make_stream([(rows, 1.0)], cfg.batch, seed=run.seed_of(STAGE))
    trained = train_scorer(run, cfg, loss, stream, name=STAGE)
    if trained is None:
        return None
    critic = {"critic": CRITIC} if cfg.objective == "cloud" else {}
    folder = export(run, *trained, kind=cfg.objective, **critic)
    if cfg.objective == "cloud" and is_first():
        shutil.copytree(model_path(cfg.critic or run.config.start), folder / CRITIC)
    share()
    _report(run, cfg, folder, len(train), len(rows), heldout)
    return folder


def pair_loss(
    model: Model, *, remat: Remat = "none", router: RouterLossConfig | None = None
) -> SumLoss:
    """The loss of `make_step`: the summed Bradley-Terry loss of the batch's `BestAndLoser` rows.

    router: what is added of a model with experts, whose loads are reported; None: neither.
    """

    def loss(params: Any, batch: Batch) -> tuple[jax.Array, jax.Array, Metrics]:
        best, positions, segments = apart(batch)
        rows = batch.tokens, positions, segments
        hidden, seen = watched_hidden(model, params, *rows, remat=remat, router=router)
        rejected = scalar_head.score_all(params["score"], hidden)
        chosen = jnp.take_along_axis(rejected, best, axis=1)
        value, count = bradley_terry_loss(chosen, rejected, batch.mask)
        total = count.sum()
        summed, gates = with_router_loss(value.sum(), count, seen, router)
        return (
            summed,
            total,
            {
                **gates,
                TOKENS: jnp.sum(batch.positions >= 0),
                TARGETS: total,
                TOO_LONG: jnp.sum(batch.too_long),
                CORRECT: jnp.sum(batch.mask & (chosen > rejected)),
            },
        )

    return loss


def apart(batch: Batch) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Separates the two sequences of each segment: [B, T] each.

    Returns:
        For each token of a loser the index of the best one's last token (0 elsewhere); positions,
        which restart in the loser; segments, two for each one of the batch.
    """
    real = batch.segments > 0
    positions = jnp.where(real, batch.positions - batch.targets, -1)
    loser = real & (batch.targets > 0)
    segments = jnp.where(real, 2 * batch.segments - ~loser, 0)
    index = jnp.arange(batch.tokens.shape[1]) - positions - 1
    return jnp.where(loser, index, 0), positions, segments


@dataclass(frozen=True)
class BestAndLoser(Generic[T]):
    """Pairs as token rows for the pipeline, which packs, shuffles and drops them as one.

    A row is the better sequence and the worse one after it. Its targets are how many tokens stand
    before a token's own sequence: 0 in the better one, that one's length in the other. What is
    scored is the last token.
    """

    pairs: Sequence[tuple[T, T]]
    tokens: Callable[[T], Sequence[int]]

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


def make_rows(run: Run, cfg: ScalarConfig, items: Sequence[Example]) -> RandomAccess[TokenRow]:
    """The rows to learn from: the best response of each item against each other one."""
    pairs = [(item, item.label or 0, i) for item in items for i in range(item.n) if i != item.label]
    tokenizer, template = run.tokenizer, run.load_templates().meta
    if cfg.objective == "pair":
        return BothOrders(pairs, lambda *pair: pair_tokens(tokenizer, template, *pair))
    if cfg.objective == "bt":
        return BestAndLoser(
            [((item, best), (item, loser)) for item, best, loser in pairs],
            lambda response: reward_tokens(tokenizer, *response),
        )
    critiques = _critiques(run, cfg, items)
    empty: tuple[Judgment, ...] = ()
    criticised = [
        ((one, a), (other, b))
        for item, best, loser in pairs
        for one, other in [(alone(item, best), alone(item, loser))]
        for a, b in zip(critiques.get(one.id, empty), critiques.get(other.id, empty), strict=False)
    ]
    return BestAndLoser(
        criticised, lambda response: meta_reading(tokenizer, template, *response).tokens
    )


def _critiques(
    run: Run, cfg: ScalarConfig, items: Sequence[Example]
) -> dict[str, tuple[Judgment, ...]]:
    """`n` critiques of every response alone, by the id of `alone`."""
    critic = Critic.load(
        cfg.critic or run.config.start,
        templates=None if run.templates is None else str(run.templates),
        strategy=cfg.strategy,
        seed=run.seed_of(STAGE),
        slots=cfg.slots,
        mesh=cfg.compute.mesh if jax.device_count() > 1 else None,
    )
    singles = [alone(item, i) for item in items for i in range(item.n)]
    critiques = collect(critic, singles, cfg.n, run.output / "critiques.jsonl", name="critiques")
    return {row.example.id: row.judgments for row in critiques}


def _report(
    run: Run, cfg: ScalarConfig, folder: Path, items: int, rows: int, heldout: list[Example]
) -> None:
    """Judges the held-out items with the written model, and reports how often it is right."""
    judge = open_judge(
        JudgeConfig(model=str(folder), strategy=cfg.strategy, slots=cfg.slots),
        str(folder),
        seed=run.seed_of("heldout"),
        mesh=cfg.compute.mesh,
    )
    report = measure_items(judge.sample_all(heldout, cfg.k), cfg.k)
    train = {"items": items, "rows": rows}
    path = write_report(run.output, {"train": train, "heldout": asdict(report)})
    shares = ", ".join(
        f"{100 * e.mean:.1f} ± {100 * e.error:.1f} % at k = {k}" for k, e in report.credited.items()
    )
    without = f"; {report.unanswered} more had no answer" if report.unanswered else ""
    say(f"{path}: right on {shares} ({report.items} held-out items{without}).")
