"""The meta RM: its rows and labels, its split by item, its training and its report."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grm_jax.data.config import BatchConfig, ItemsConfig
from grm_jax.data.pipeline import make_stream
from grm_jax.evals.ranking import rank
from grm_jax.judging.config import JudgeConfig
from grm_jax.judging.folder import model_path
from grm_jax.judging.judgment import Sampled
from grm_jax.judging.meta import MetaRM
from grm_jax.judging.reward import is_correct
from grm_jax.judging.samples import read_samples
from grm_jax.mesh import MeshConfig
from grm_jax.models import hf, scalar_head
from grm_jax.sharding import make_mesh
from grm_jax.text.prompts import load_templates
from grm_jax.train import meta_rm
from grm_jax.train.config import CheckpointConfig, OptimizerConfig, RunConfig
from grm_jax.train.meta_rm import ScoredRows, labels
from grm_jax.train.scorer import grown, is_heldout, label_loss, with_head
from grm_jax.train.stages.scorer import MetaRMConfig
from grm_jax.train.start import load_start, start_templates, start_tokenizer
from grm_jax.train.tracking import read_metrics
from tests.devices import one_device
from tests.train.pairs import Pair, change

pytestmark = pytest.mark.slow  # all of them need a trained model


@pytest.fixture(scope="module")
def cfg(tmp_path_factory):
    stage = MetaRMConfig(
        items=(ItemsConfig(limit=24),),
        judge=JudgeConfig(slots=16),
        n=4,
        heldout_share=0.3,
        steps=3,
        batch=BatchConfig(8, 128),
        optimizer=OptimizerConfig(1e-3),
        checkpoint=CheckpointConfig(every=2),
    )
    return Pair(RunConfig(str(tmp_path_factory.mktemp("meta"))), stage)


@pytest.fixture(scope="module")
def done(cfg):
    """The folder of a finished run."""
    with one_device():
        model = meta_rm.run(*cfg)
    assert model is not None
    return model.parent


@pytest.fixture(scope="module")
def sampled(done):
    return [row for row in read_samples(done / "samples.jsonl") if isinstance(row, Sampled)]


@pytest.fixture(scope="module")
def words(cfg):
    templates = load_templates(start_templates(cfg.run.start, None))
    return start_tokenizer(cfg.run.start, None), templates.meta


def test_labels_are_equation_10_and_none_without_scores(sampled):
    found = {right for row in sampled for right in labels(row)}
    assert {True, False} <= found
    for row in sampled:
        for judgment, right in zip(row.judgments, labels(row), strict=True):
            if judgment.scores is None:
                assert right is None
            else:
                assert right == is_correct(judgment.scores, row.example.label)


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_row_ends_with_the_judgment_and_carries_its_label(sampled, words, everywhere):
    tokenizer, template = words
    rows = ScoredRows(sampled, tokenizer, template, everywhere=everywhere)
    assert len(rows) == sum(right is not None for row in sampled for right in labels(row))
    for index in range(0, len(rows), 5):
        i, j, right = rows.places[index]
        row = rows[index]
        fed = tokenizer.decode(row.ids[:-1])
        judgment = sampled[i].judgments[j]
        assert fed.endswith(judgment.text.strip() + "<end_of_turn>")
        shown = [sampled[i].example.responses[place] for place in judgment.order]
        assert fed.index(f"[1] {shown[0]}") > 0
        assert set(row.targets) == {int(right)}
        supervised = np.flatnonzero(row.learn[1:])
        assert supervised[-1] == len(row.ids) - 2  # the last token that is fed
        written = len(tokenizer.encode_completion(judgment.text))
        assert len(supervised) == (written if everywhere else 1)


def test_classes_can_be_drawn_apart(sampled, words):
    both = ScoredRows(sampled, *words)
    parts = [ScoredRows(sampled, *words, label) for label in (False, True)]
    assert sum(map(len, parts)) == len(both)
    assert {right for *_, right in parts[1].places} == {True}


def test_packed_rows_have_the_loss_of_single_ones(sampled, words, done):
    """The score of a judgment is read at its last token, whatever it was packed with."""
    model, params = hf.load_folder(done / "model", dtype="float32")
    rows = ScoredRows(sampled[:6], *words)
    batch = next(make_stream([(rows, 1.0)], BatchConfig(4, 128), seed=0, threads=1))
    batch = jax.tree.map(jnp.asarray, batch)
    assert batch.mask.sum() > 4
    value, count, _ = label_loss(model)(params, batch)
    hidden = model.hidden(params, batch.tokens, batch.positions, batch.segments)
    scores = np.asarray(scalar_head.score_all(params["score"], hidden))
    total = 0.0
    for row, end in np.argwhere(batch.mask):
        length = int(batch.positions[row, end]) + 1
        ids = batch.tokens[row, end + 1 - length : end + 1][None]
        places = jnp.arange(length)[None]
        alone = float(model.score(params, model.hidden(params, ids, places), places)[0])
        assert scores[row, end] == pytest.approx(alone, abs=1e-4)
        signed = alone if batch.targets[row, end] else -alone
        total += np.log1p(np.exp(-signed))
    assert float(value) == pytest.approx(total, rel=1e-4)
    assert int(count) == batch.mask.sum()


def test_the_split_is_by_item(cfg, done, sampled):
    report = json.loads((done / "report.json").read_text())
    held = [row for row in sampled if is_heldout(row.example.id, cfg.cfg.heldout_share)]
    assert 0 < len(held) < len(sampled)
    assert report["heldout"]["items"] == len(held)
    assert report["train"]["items"] == len(sampled) - len(held)
    train = [
        right
        for row in sampled
        if not is_heldout(row.example.id, cfg.cfg.heldout_share)
        for right in labels(row)
        if right is not None
    ]
    assert report["train"]["judgments"] == len(train)
    assert report["train"]["right_share"] == pytest.approx(np.mean(train))


def test_the_folder_is_a_meta_rm(done):
    assert MetaRM.load(done / "model").folder.model.head == "scalar"
    assert [row["step"] for row in read_metrics(done / "metrics.jsonl")] == [1, 2, 3]


def test_it_learns_what_it_is_shown(cfg, done, tmp_path):
    """Twenty updates on a few judgments: it must tell some of them apart by then."""
    other = change(
        cfg,
        output=str(tmp_path),
        n=0,
        samples=(str(done / "samples.jsonl"),),
        steps=20,
        supervise="all",
        balance="equal",
    )
    with one_device():
        meta_rm.run(*other)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert rows[-1]["train/loss"] < rows[0]["train/loss"]
    share = sum(r["data/right"] for r in rows) / sum(r["data/targets"] for r in rows)
    assert share == pytest.approx(0.5, abs=0.1)  # as many of each


def test_that_there_is_nothing_to_measure_on_is_said_before_training(cfg, done, tmp_path):
    samples = (str(done / "samples.jsonl"),)
    other = change(cfg, output=str(tmp_path), n=0, samples=samples, heldout_share=1e-6)
    with pytest.raises(ValueError, match=r"heldout_share 1e-06 keeps 0 of 24 items"):
        meta_rm.run(*other)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_the_trunk_is_the_starts(cfg, done):
    _, start = hf.load_folder(model_path(cfg.run.start), dtype="float32")
    _, trained = hf.load_folder(done / "model", dtype="float32")
    change = jax.tree.map(
        lambda a, b: float(np.abs(np.asarray(a, np.float32) - np.asarray(b, np.float32)).max()),
        start,
        {k: v for k, v in trained.items() if k != "score"},
    )
    assert 0 < max(jax.tree.leaves(change)) < 0.05  # three small updates away


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 0}, "n is 0 and samples names 0 files"),
        ({"heldout_share": 0.0}, r"heldout_share is 0\.0"),
        ({"heldout_share": 1.0}, r"heldout_share is 1\.0"),
        ({"steps": 0}, "steps is 0"),
    ],
)
def test_values_out_of_range_are_refused(cfg, changes, message):
    with pytest.raises(ValueError, match=message):
        change(cfg, **changes)


def test_new_layers_begin_as_next_to_nothing(cfg, words):
    """A grown model's hidden states are nearly the trunk's, and only the new layers are new."""
    mesh = make_mesh(MeshConfig())
    with jax.set_mesh(mesh):
        model, load = load_start(cfg.run.start, words[0], mesh, dtype="float32", seed=0)
        scalar = grown(model, 2)
        trunk = load()
        params = with_head(scalar, trunk, mesh, 0)
    assert scalar.config.num_layers == model.config.num_layers + 4
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, scalar.abstract())
    for name in ("local", "global"):
        for leaf, old in params["pairs"][name].items():
            np.testing.assert_array_equal(old[:2], trunk["pairs"][name][leaf])
    tokens = jnp.asarray([words[0].encode("What is 37+48?")])
    positions = jnp.arange(tokens.shape[1])[None]
    before = np.asarray(model.hidden(trunk, tokens, positions))
    after = np.asarray(scalar.hidden(params, tokens, positions))
    cosine = (before * after).sum(-1) / np.linalg.norm(before, axis=-1)
    assert (cosine / np.linalg.norm(after, axis=-1) > 0.9).all()
    assert not np.allclose(before, after)


def test_what_few_judgments_do_not_tell_is_a_dash() -> None:
    told = meta_rm.describe(rank([[(2.0, True), (1.0, False)]]))
    assert "AUC 1.000 over 2" in told
    assert "1.000 ± – (1 items" in told
    assert "AUC – over 1" in meta_rm.describe(rank([[(2.0, True)]]))
