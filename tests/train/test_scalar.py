"""The scalar baselines: their rows and losses by hand, and whole runs of each objective."""

import json
import os
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grm_jax.data.config import BatchConfig, ItemsConfig
from grm_jax.data.items import load_items
from grm_jax.data.pipeline import make_stream
from grm_jax.judging.cloud import CLoud
from grm_jax.judging.config import JudgeConfig
from grm_jax.judging.folder import bundled
from grm_jax.judging.samples import read_samples
from grm_jax.judging.scalar import BTRM, PairRM, pair_tokens, reward_tokens
from grm_jax.judging.sources import open_judge
from grm_jax.mesh import MeshConfig
from grm_jax.models import hf
from grm_jax.models.config import Gemma2Config
from grm_jax.models.model import Model
from grm_jax.text.prompts import load_templates
from grm_jax.text.tokenizer import Tokenizer
from grm_jax.train import scalar
from grm_jax.train.compute import ComputeConfig
from grm_jax.train.config import CheckpointConfig, OptimizerConfig, RunConfig
from grm_jax.train.scalar import make_rows, pair_loss, run
from grm_jax.train.scorer import label_loss
from grm_jax.train.stages.scorer import ScalarConfig
from grm_jax.train.tracking import Tracker, read_metrics
from tests.train.pairs import Pair, change, opened

TINY = bundled("tiny-start")
TEMPLATES = TINY / "templates"
LENGTH = 96


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.load(TINY)


@pytest.fixture(scope="module")
def shape(tokenizer):
    return Model(Gemma2Config(tokenizer.vocab_size, 2, 16, 32, 2, 1, 8, 8.0, 16, max_position=128))


def random(model, seed=0):
    rng = np.random.default_rng(seed)
    make = lambda p: jnp.asarray(rng.normal(0, 0.3, p.shape), jnp.float32)  # noqa: E731
    return jax.tree.map(make, model.abstract())


@pytest.fixture(scope="module")
def cfg(shape, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scalar") / "start"
    told = {"max_new_tokens": 8}
    hf.save_folder(
        shape, random(shape), folder, tokenizer=tokenizer, templates=TEMPLATES, extra=told
    )
    stage = ScalarConfig(
        items=(ItemsConfig(limit=24),),
        heldout_share=0.3,
        slots=8,
        k=2,
        steps=3,
        batch=BatchConfig(8, LENGTH),
        optimizer=OptimizerConfig(1e-2),
        compute=ComputeConfig(mesh=MeshConfig(8, 1, 1)),  # compiles faster than fsdp
        checkpoint=CheckpointConfig(every=2),
    )
    return Pair(RunConfig(str(folder.parent / "bt"), str(folder)), stage)


@pytest.fixture(scope="module")
def items(cfg):
    return [item for item in load_items(cfg.cfg.items, 0) if item.n > 1]


@pytest.fixture(scope="module")
def score(shape):
    """score(params, ids): of one sequence, padded to one length."""
    model = shape.as_head("scalar")

    @jax.jit
    def plain(params, tokens, positions):
        return model.score(params, model.hidden(params, tokens, positions), positions)

    def score(params, ids):
        tokens, positions = np.zeros((1, 128), np.int32), np.full((1, 128), -1, np.int32)
        tokens[0, : len(ids)], positions[0, : len(ids)] = ids, np.arange(len(ids))
        return float(plain(params, tokens, positions)[0])

    return score


def first_batch(rows):
    stream = make_stream([(rows, 1.0)], BatchConfig(8, LENGTH), seed=0, threads=1)
    return jax.tree.map(jnp.asarray, next(stream))


def decoded(tokenizer, batch):
    """(first, place after the last) of each segment of the batch."""
    segments = np.asarray(batch.segments)
    for row in range(len(segments)):
        for segment in range(1, segments[row].max() + 1):
            places = np.flatnonzero(segments[row] == segment)
            yield row, places[0], places[-1] + 1


def test_a_packed_bradley_terry_loss_is_that_of_the_pairs_apart(
    cfg, items, tokenizer, shape, score
):
    """However pairs are packed, each is the best response's score against the loser's, alone."""
    rows = make_rows(opened(cfg), cfg.cfg, items)
    assert len(rows) == sum(item.n - 1 for item in items)
    known = {}
    for item in items:
        best = reward_tokens(tokenizer, item, item.label)
        for i in range(item.n):
            if i != item.label:
                loser = reward_tokens(tokenizer, item, i)
                known[(*best, *loser)] = best, loser
    batch, params = first_batch(rows), random(shape.as_head("scalar"), 1)
    margins = []
    for row, start, end in decoded(tokenizer, batch):
        best, loser = known[tuple(np.asarray(batch.tokens[row, start:end]).tolist())]
        margins.append(score(params, best) - score(params, loser))
    assert len(margins) > 8  # several in a row
    value, count, sums = jax.jit(pair_loss(shape.as_head("scalar")))(params, batch)
    assert int(count) == len(margins)
    assert float(value) == pytest.approx(np.log1p(np.exp(-np.array(margins))).sum(), rel=1e-3)
    assert int(sums["train/correct"]) == sum(m > 0 for m in margins)


def test_a_pairwise_row_says_whether_the_first_is_best(cfg, items, tokenizer, shape, score):
    pair = change(cfg, objective="pair")
    rows = make_rows(opened(pair), pair.cfg, items)
    assert len(rows) == 2 * sum(item.n - 1 for item in items)
    template, known = load_templates(TEMPLATES).meta, {}
    for item in items:
        for i in range(item.n):
            if i != item.label:
                pair = item.label, i
                known[tuple(pair_tokens(tokenizer, template, item, *pair))] = 1
                known[tuple(pair_tokens(tokenizer, template, item, *pair[::-1]))] = 0
    labels = {
        known[tuple(rows[i].ids[:-1].tolist())] == rows[i].targets[0] for i in range(len(rows))
    }
    assert labels == {True}
    batch, params = first_batch(rows), random(shape.as_head("scalar"), 1)
    wanted = 0.0
    for row, start, end in decoded(tokenizer, batch):
        ids = np.asarray(batch.tokens[row, start:end]).tolist()
        sign = 1 if known[tuple(ids)] else -1
        wanted += np.log1p(np.exp(-sign * score(params, ids)))
    value, _, _ = jax.jit(label_loss(shape.as_head("scalar")))(params, batch)
    assert float(value) == pytest.approx(wanted, rel=1e-3)


@pytest.fixture(scope="module")
def trained(cfg):
    """A finished run of bt, and the weights that it ended with."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        export = scalar.export
        patch.setattr(
            scalar, "export", lambda *a, **k: (found.update(params=a[2]), export(*a, **k))[1]
        )
        assert run(*cfg) == Path(cfg.output) / "model"
    return found["params"]


def test_the_written_folder_gives_the_trained_scores(cfg, trained, items, tokenizer, score):
    judge = open_judge(JudgeConfig(str(Path(cfg.output) / "model"), slots=8), "", seed=0)
    assert isinstance(judge, BTRM)
    here = jax.tree.map(np.asarray, trained)
    for row in judge.sample_all(items[:3], 1):
        wanted = [
            score(here, reward_tokens(tokenizer, row.example, i)) for i in range(row.example.n)
        ]
        np.testing.assert_allclose(row.judgments[0].scores, wanted, rtol=1e-4, atol=1e-5)


def test_a_report_counts_the_held_out_items(cfg, trained, items):
    report = json.loads((Path(cfg.output) / "report.json").read_text())
    assert 0 < report["heldout"]["items"] < len(items)
    assert report["train"]["items"] + report["heldout"]["items"] == len(items)
    assert set(report["heldout"]["credited"]) == {"1", "2"}
    assert [row["step"] for row in read_metrics(Path(cfg.output) / "metrics.jsonl")] == [1, 2, 3]


@pytest.mark.slow
def test_a_run_stopped_by_sigterm_ends_with_the_same_bits(cfg, trained, tmp_path, monkeypatch):
    stopped = change(cfg, output=str(tmp_path))
    log = Tracker.log

    def log_and_be_told(self, step, numbers, samples):
        log(self, step, numbers, samples)
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "log", log_and_be_told)
        assert run(*stopped) is None
    assert not (tmp_path / "model").exists()
    assert run(*stopped) == tmp_path / "model"
    weights = "model/model.safetensors"
    assert (tmp_path / weights).read_bytes() == (Path(cfg.output) / weights).read_bytes()


@pytest.mark.slow
def test_pair_learns_what_it_is_shown(cfg, tmp_path):
    """Sixty updates on a few pairs: the label must follow from the order by then."""
    rare = CheckpointConfig(every=100)
    other = change(cfg, output=str(tmp_path), objective="pair", steps=60, checkpoint=rare)
    judge = open_judge(JudgeConfig(str(run(*other))), "", seed=0)
    assert isinstance(judge, PairRM)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert rows[-1]["train/loss"] < 0.8 * rows[0]["train/loss"]
    assert rows[-1]["train/correct"] > 0.75 * rows[-1]["data/targets"]


@pytest.mark.slow
def test_cloud_takes_its_critic_along(cfg, items, tmp_path):
    """One folder is one judge: it can be moved, and reads critiques of single responses."""
    other = change(cfg, output=str(tmp_path), objective="cloud", critic=cfg.run.start, k=1)
    model = run(*other)
    critiques = list(read_samples(tmp_path / "critiques.jsonl"))
    assert {row.example.n for row in critiques} == {1}
    assert {len(row.judgments) for row in critiques} == {1}
    report = json.loads((tmp_path / "report.json").read_text())
    pairs = sum(item.n - 1 for item in items if f"{item.id}/0" in {c.example.id for c in critiques})
    assert report["train"]["rows"] == pairs
    assert report["heldout"]["invalid"] == {}  # what was written has judged, and could
    judge = open_judge(JudgeConfig(str(model.rename(tmp_path / "moved")), slots=8), "", seed=0)
    assert isinstance(judge, CLoud)
    told = json.loads((tmp_path / "moved" / "grm.json").read_text())
    assert (told["kind"], told["critic"]) == ("cloud", "critic")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 0}, "n is 0"),
        ({"k": 0}, "k is 0"),
        ({"critic": "tiny"}, "which reads no critique"),
        ({"steps": 0}, "steps is 0"),
    ],
)
def test_values_out_of_range_are_refused(cfg, changes, message):
    with pytest.raises(ValueError, match=message):
        change(cfg, **changes)


def test_too_few_items_are_told(cfg, tmp_path):
    few = change(cfg, output=str(tmp_path), items=(ItemsConfig(limit=1),))
    with pytest.raises(ValueError, match="give more items"):
        run(*few)
