"""Presets, the paper's hyperparameters and its ablations: every number is a field that is read."""

import ast
import json
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import yaml
from jax.sharding import AbstractMesh

from grm_jax import presets
from grm_jax.cli import data
from grm_jax.cli.commands import MathPairsConfig
from grm_jax.cli.options import read_options
from grm_jax.data.items import load_items
from grm_jax.evals.experiments.config import JudgesConfig
from grm_jax.judging.answers import Answered
from grm_jax.sharding import MESH_AXES
from grm_jax.train.config import RunConfig
from grm_jax.train.stages.grpo import GRPOConfig
from grm_jax.train.stages.rft import RFTConfig
from grm_jax.train.stages.scorer import MetaRMConfig, ScalarConfig
from grm_jax.train.stages.sft import SFTConfig
from grm_jax.train.stages.spct import SPCTConfig
from grm_jax.train.step import check_batch
from tests.train import pairs

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs" / "train"


def read_both(name, *overrides, stage="spct"):
    return pairs.read(stage, "--config", str(CONFIGS / name), *overrides)


def read(name, *overrides):
    return read_both(name, *overrides).cfg


def config_classes(cls, found):
    """The dataclasses inside a config, by following the values of its annotations."""
    import typing

    if not is_dataclass(cls) or cls in found:
        return found
    found.add(cls)

    def visit(kind):
        config_classes(kind, found)
        for inner in typing.get_args(kind):
            visit(inner)

    for kind in typing.get_type_hints(cls).values():
        visit(kind)
    return found


def test_every_field_of_a_config_is_read_somewhere():
    read_names = set()
    for path in (ROOT / "grm_jax").rglob("*.py"):
        tree = ast.parse(path.read_text())
        checks = {  # what only checks a field does not use it
            node
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef) and function.name == "__post_init__"
            for node in ast.walk(function)
        }
        read_names |= {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Load)
            and node not in checks
        }
        if any(
            isinstance(node, ast.Call)
            and getattr(node.func, "id", "") == "getattr"
            and isinstance(node.args[1], ast.Name)
            and node not in checks
            for node in ast.walk(tree)
        ):  # read by names that stand in the same file
            read_names |= {
                node.value
                for node in ast.walk(tree)
                if isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and node not in checks
            }
    classes: set[type] = set()
    for config in (RunConfig, SFTConfig, SPCTConfig, ScalarConfig):
        config_classes(config, classes)
    assert {RFTConfig, GRPOConfig, MetaRMConfig} <= classes
    unread = {f"{c.__name__}.{f.name}" for c in classes for f in fields(c)} - {
        f"{c.__name__}.{f.name}" for c in classes for f in fields(c) if f.name in read_names
    }
    assert unread == set()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("spct_*.yaml")), ids=lambda p: p.stem)
def test_presets_are_configs(path):
    cfg = read(path.name)
    assert cfg.rft is not None
    assert cfg.grpo is not None
    assert cfg.meta_rm is not None
    rows = ((cfg.rft, cfg.rft.batch.sequences), (cfg.meta_rm, cfg.meta_rm.batch.sequences))
    for stage, count in (*rows, (cfg.grpo, cfg.grpo.prompts)):
        mesh = stage.compute.mesh
        shape = (mesh.data, max(mesh.fsdp, 1), mesh.tensor)
        check_batch(count, stage.compute.microbatches, AbstractMesh(shape, MESH_AXES))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("sft_*.yaml")), ids=lambda p: p.stem)
def test_sft_presets_are_configs_of_files_that_are_there(path):
    run, cfg = read_both(path.name, stage="sft")
    sources = [source for stage in cfg.stages.values() for source in stage.data]
    assert all(presets.templates(s.templates).is_dir() for s in (run, *sources) if s.templates)
    assert run.tokenizer in (None, *presets.BUNDLED)


@pytest.mark.parametrize("objective", ["bt", "pair", "cloud"])
def test_the_scalar_judges_learn_from_the_items_of_spct(objective):
    """The comparison of the paper's Table 2 on the small world: the same items, the same start."""
    run, cfg = read_both(f"{objective}_tiny.yaml", stage="scalar")
    spct = read_both("spct_tiny.yaml")
    assert cfg.objective == objective
    assert run.start == spct.run.start
    assert cfg.items == (*spct.cfg.rft.items, *spct.cfg.grpo.items)


def test_the_judge_is_trained_on_the_data_and_the_budget_of_the_grm():
    grm, (run, judge) = read("spct_tiny.yaml"), read_both("judge_spct_tiny.yaml")
    assert judge.rft == grm.rft
    own = replace(grm.grpo.filter.judge, model=run.start)
    assert judge.grpo == replace(grm.grpo, filter=replace(grm.grpo.filter, judge=own))
    assert judge.evaluation == grm.evaluation
    start, before = (
        read_both("judge_tiny.yaml", stage="sft"),
        read_both("sft_tiny.yaml", stage="sft"),
    )
    assert run.start == f"{start.output}/model"
    assert start.cfg.kind == "judge"
    assert start.cfg.stages["noisy"].data[0].source == "choices"
    assert start.cfg.stages["noisy"].data[0].noise == before.cfg.stages["noisy"].data[0].noise


def test_the_27b_preset_says_the_papers_hyperparameters():
    """The table "Hyperparameters" of the paper's appendix, row by row."""
    run, cfg = read_both("spct_27b.yaml")
    assert run.start == "google/gemma-2-27b"
    assert cfg.rft.n_plain == 3
    assert cfg.rft.general_share == pytest.approx(1070 / 1256, abs=5e-4)
    assert cfg.rft.optimizer.learning_rate == 5e-6
    assert (cfg.rft.batch.sequences, cfg.rft.batch.pack, cfg.rft.steps) == (1024, False, 900)
    assert cfg.grpo.optimizer.learning_rate == 4e-7
    assert (cfg.grpo.per_step, cfg.grpo.steps, cfg.grpo.group) == (512, 900, 4)
    assert cfg.grpo.loss.beta == 0.08
    assert cfg.grpo.filter.n == 3
    assert cfg.meta_rm.optimizer.learning_rate == 1e-5
    assert (cfg.meta_rm.batch.sequences, cfg.meta_rm.batch.pack) == (512, False)
    assert cfg.evaluation.strategy.temperature == 0.5
    assert cfg.evaluation.k == 32


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("--rft.principles=false", lambda c: c.rft.principles is False),
        ("--rft.n_hinted=0", lambda c: c.rft.n_hinted == 0),
        ("--rft.n_plain=0", lambda c: c.rft.n_plain == 0),
        ("--rft.n_plain=0 --rft.n_hinted=0", lambda c: c.rft.n_plain + c.rft.n_hinted == 0),
        ("--rft.general_share=0", lambda c: c.rft.general_share == 0),
        ("--grpo=null", lambda c: c.grpo is None),
    ],
)
@pytest.mark.parametrize("preset", ["spct_27b.yaml"])
def test_every_ablation_of_table_4_is_one_line(preset, override, changed):
    assert not changed(read(preset))
    assert changed(read(preset, *override.split()))


def test_what_the_pipeline_sets_cannot_be_set_in_a_stage():
    with pytest.raises(ValueError, match=r"there is no option .*seed"):
        read("spct_tiny.yaml", "--rft.seed", "3")


def test_the_judges_of_the_experiment_are_what_the_presets_make():
    path = ROOT / "configs" / "experiments" / "judges_tiny.yaml"
    cfg = read_options(JudgesConfig, ["--config", str(path)], "experiment judges")
    made = {yaml.safe_load(file.read_text())["output"] for file in CONFIGS.glob("*.yaml")}
    models = [Path(judge.model or "") for judge in cfg.judges.values()]
    assert {str(Path(*model.parts[:2])) for model in models} - {"tiny"} <= made
    assert len(models) == 6


def user(text):
    return {"role": "user", "content": text}


def reply(text):
    return {"role": "assistant", "content": text}


# The public columns of what the presets name, a row of each, where the hub has it.
COPIES = {
    "HuggingFaceH4/ultrafeedback_binarized": (
        "data/train_prefs-00000-of-00001.parquet",
        {
            "prompt": "q",
            "prompt_id": "p1",
            "chosen": [user("q"), reply("good")],
            "rejected": [user("q"), reply("bad")],
            "messages": [user("q"), reply("good")],
            "score_chosen": 8.0,
            "score_rejected": 5.0,
        },
    ),
    "NCSOFT/offsetbias": (
        "train.jsonl",
        {"instruction": "q", "output_1": "bad", "output_2": "good", "label": 2},
    ),
    "Skywork/Skywork-Reward-Preference-80K-v0.2": (
        "data/train-00000-of-00001.parquet",
        {
            "chosen": [user("q"), reply("good")],
            "rejected": [user("q"), reply("bad")],
            "source": "magpie",
        },
    ),
    "nvidia/HelpSteer2": (
        "preference/preference.jsonl",
        {
            "split": "train",
            "prompt": "q",
            "response_1": "bad",
            "response_2": "good",
            "preference_strength": 2,
            "preference_statement": "the second is right",
            "preference_elaboration": "it is",
            "three_most_similar_preferences": [],
            "all_preferences_unprocessed": [],
        },
    ),
    "allenai/reward-bench": (
        "data/filtered-00000-of-00001.parquet",
        {
            "prompt": "q",
            "chosen": "good",
            "chosen_model": "m",
            "rejected": "bad",
            "rejected_model": "n",
            "subset": "alpacaeval-easy",
            "id": 30,
        },
    ),
}
SUBJECTS = ("algebra", "counting_and_probability", "geometry", "intermediate_algebra",
            "number_theory", "prealgebra", "precalculus")  # fmt: skip


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """Local copies of the public sets, in the hub's layout; other files and splits beside them."""
    folder = tmp_path_factory.mktemp("hub")
    for hub_id, (place, row) in COPIES.items():
        path = folder / hub_id / place
        path.parent.mkdir(parents=True)
        if path.suffix == ".jsonl":
            path.write_text(json.dumps(row) + "\n")
        else:
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    other = folder / "HuggingFaceH4/ultrafeedback_binarized/data/train_gen-00000-of-00001.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"prompt": "q"}]), other)
    ratings = {"prompt": "q", "response": "a", "helpfulness": 3, "correctness": 4}
    (folder / "nvidia/HelpSteer2/train.jsonl").write_text(json.dumps(ratings) + "\n")
    problem = {"problem": "1+1?", "level": "Level 1", "type": "Algebra", "solution": "\\boxed{2}"}
    for name in SUBJECTS:
        path = folder / "EleutherAI/hendrycks_math" / name / "train-00000-of-00001.parquet"
        path.parent.mkdir(parents=True)
        told = problem | {"problem": f"1+1? ({name})"}
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([told]), path)
    return folder


def sources_of(name):
    """Every source of items that a preset names, once."""
    cfg = read(name)
    stages = (cfg.rft, cfg.grpo, cfg.meta_rm, cfg.evaluation)
    return list(dict.fromkeys(source for stage in stages for source in stage.items))


@pytest.fixture
def with_math_pairs(copies, tmp_path, monkeypatch):
    """The pairs of MATH, made as the presets say, where they say."""
    monkeypatch.chdir(tmp_path)

    class Model:
        def answer_all(self, questions, n):
            for question in questions:
                yield Answered(question.id, tuple(f"\\boxed{{{i}}}" for i in range(n)))

    monkeypatch.setattr(data, "open_answers", lambda cfg: Model())
    preset = presets.find("data", "math_pairs")
    cfg = read_options(MathPairsConfig, ["--config", preset], "data math-pairs")
    assert {source.name for source in cfg.input} == set(SUBJECTS)
    problems = tuple(replace(source, source=str(copies / source.source)) for source in cfg.input)
    assert data.run(replace(cfg, input=problems)) == 0


@pytest.mark.parametrize("name", ["spct_2b.yaml", "spct_9b.yaml", "spct_27b.yaml"])
def test_every_source_of_the_large_presets_yields_labelled_items(name, copies, with_math_pairs):
    sources = sources_of(name)
    assert len(sources) == 6
    for source in sources:
        local = copies / source.source
        items = load_items((replace(source, source=str(local)) if local.exists() else source,), 0)
        assert len(items) == (len(SUBJECTS) if "math" in source.source else 1), source
        assert all(item.label is not None for item in items)
        if local.exists():
            assert [item.responses[item.label] for item in items] == ["good"], source


def test_local_copies_of_the_public_sets_yield_labelled_items(shared_data):
    """The same on real rows, for the sets that are there."""
    seen = set()
    for source in sources_of("spct_27b.yaml"):
        folder = shared_data / "hub_schema" / source.source.replace("/", "__")
        if folder.is_dir():
            items = load_items((replace(source, source=str(folder), limit=50),), 0)
            assert len(items) > 45
            assert all(item.n == 2 and item.label is not None for item in items)
            seen.add(source.source)
    assert len(seen) == 3
