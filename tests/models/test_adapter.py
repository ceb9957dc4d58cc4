"""Adapters: what they compute, and that PEFT reads ours and we read PEFT's."""

from __future__ import annotations

import json
import shutil
import warnings
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from grm_jax.mesh import MeshConfig
from grm_jax.models import hf
from grm_jax.models.adapted import merged
from grm_jax.models.adapter import Adapter
from grm_jax.models.adapter_files import read_adapter, write_adapter
from grm_jax.models.config import Gemma2Config
from grm_jax.models.hf_config import config_from_hf
from grm_jax.models.hf_folder import ADAPTER, ADAPTER_WEIGHTS
from grm_jax.models.model import Model
from grm_jax.sharding import TRAIN_RULES, make_mesh, shardings_of
from tests.models.conftest import SIZES, randomise

TOLERANCE = 1e-4
RANK, ALPHA = 3, 6.0
ALL = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
# With experts those of attention alone: PEFT takes the other names for the routed experts'.
LATENTS = ("kv_a_proj_with_mqa", "kv_b_proj", "o_proj", "q_a_proj", "q_b_proj")


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """Llama, with an output layer of its own: (transformers' model, its folder)."""
    own = {"query_pre_attn_scalar", "sliding_window", "attn_logit_softcapping"}
    sizes = {k: v for k, v in SIZES.items() if k not in own | {"final_logit_softcapping"}}
    module = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**sizes, attn_implementation="eager")
    ).eval()
    randomise(module, seed=1)
    folder = tmp_path_factory.mktemp("llama")
    module.save_pretrained(folder)
    return module, folder


@pytest.fixture(scope="module")
def deepseek(tmp_path_factory):
    """DeepSeek-V3, with a dense layer and one of experts."""
    module = transformers.DeepseekV3ForCausalLM(
        transformers.DeepseekV3Config(
            vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=4, first_k_dense_replace=1, q_lora_rank=14,
            kv_lora_rank=12, qk_nope_head_dim=10, qk_rope_head_dim=8, head_dim=8, v_head_dim=6,
            n_routed_experts=8, num_experts_per_tok=3, moe_intermediate_size=20, n_group=4,
            topk_group=2, max_position_embeddings=64, pad_token_id=0, attn_implementation="eager",
        )
    ).eval()  # fmt: skip
    randomise(module, seed=2)
    folder = tmp_path_factory.mktemp("deepseek")
    module.save_pretrained(folder)
    return module, folder


@pytest.fixture(scope="module")
def bases(make_hf, llama, deepseek):
    return {"gemma-2": make_hf(), "llama": llama, "deepseek": deepseek}


def random_adapter(adapter: Adapter, seed: int = 0):
    """With B's that are not zero, so that every matrix is changed."""
    trained = adapter.init(jax.random.key(seed))
    leaves, structure = jax.tree.flatten(trained)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    made = [
        0.3 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, made)


def adapter_of(folder: Path, **changes):
    model, params = hf.load_folder(folder)
    settings = {"rank": RANK, "alpha": ALPHA, **changes}
    adapter = Adapter(model, **settings)
    return adapter, params, random_adapter(adapter)


def logits(model, params, tokens, positions):
    hidden = model.hidden(params, tokens, positions)
    return model.logits(params, hidden)


def load_peft(module, folder: Path):
    """PEFT's own reading of an adapter over transformers' model, which it changes: a copy."""
    peft = pytest.importorskip("peft")
    again = type(module)(module.config).eval()
    again.load_state_dict(module.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peft.PeftModel.from_pretrained(again, str(folder)).eval()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gemma-2", "llama", "deepseek"])
def test_peft_reads_ours_and_the_logits_are_the_same(
    bases, rows, run_hf, error_of, tmp_path, family
):
    module, folder = bases[family]
    adapter, params, trained = adapter_of(folder)
    assert adapter.modules == (LATENTS if family == "deepseek" else ALL)
    write_adapter(tmp_path, adapter, trained, str(folder))
    tokens, positions = rows([11, 5])
    real = positions >= 0
    theirs = run_hf(load_peft(module, tmp_path), tokens, positions).logits[real]
    # As in training, as for rollouts, and as a folder that is loaded.
    model = adapter.model
    forward = jax.jit(logits, static_argnums=0)
    beside = forward(model, adapter.join(params, trained), tokens, positions)
    assert error_of(beside[real], theirs) < TOLERANCE
    into = jax.jit(merged, static_argnums=1)(adapter.join(params, trained), "float32")
    assert error_of(forward(model, into, tokens, positions)[real], theirs) < TOLERANCE
    again, loaded = hf.load_folder(tmp_path)
    assert again == model
    assert error_of(forward(again, loaded, tokens, positions)[real], theirs) < TOLERANCE
    # And the adapter does change something.
    plain = forward(model, params, tokens, positions)[real]
    assert error_of(plain, theirs) > 100 * TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gemma-2", "llama"])
def test_an_adapter_of_the_last_layers_alone(bases, rows, run_hf, error_of, tmp_path, family):
    """PEFT reads it, and so do we, to be merged and to be trained on."""
    module, folder = bases[family]
    adapter, params, trained = adapter_of(folder, layers=2)
    write_adapter(tmp_path, adapter, trained, str(folder))
    assert json.loads((tmp_path / ADAPTER).read_text())["layers_to_transform"] == [2, 3]
    assert len(load_file(tmp_path / ADAPTER_WEIGHTS)) == 2 * 2 * len(ALL)
    modes = {(tmp_path / name).stat().st_mode for name in (ADAPTER, ADAPTER_WEIGHTS)}
    assert len(modes) == 1  # who may read the one may read the other
    tokens, positions = rows([11, 5])
    real = positions >= 0
    theirs = run_hf(load_peft(module, tmp_path), tokens, positions).logits[real]
    forward = jax.jit(logits, static_argnums=0)
    joined = adapter.join(params, trained)
    into = jax.jit(merged, static_argnums=1)(joined, "float32")
    for weights in (joined, into, hf.load_folder(tmp_path)[1]):
        ours = forward(adapter.model, weights, tokens, positions)[real]
        assert error_of(ours, theirs) < TOLERANCE
    jax.tree.map(np.testing.assert_array_equal, read_adapter(tmp_path, adapter), trained)
    with pytest.raises(ValueError, match=r"in 28 tensors; but .* in 56 of 4 layers"):
        read_adapter(tmp_path, Adapter(adapter.model, RANK, ALPHA))


@pytest.mark.slow
def test_the_backward_pass_ends_at_the_first_layer_that_is_changed(bases, rows):
    """And the gradient is that of an adapter of all layers, whose lower ones change nothing."""
    adapter, params, trained = adapter_of(bases["llama"][1], layers=1)
    whole = Adapter(adapter.model, RANK, ALPHA)
    tokens, positions = map(jnp.asarray, rows([11, 5]))

    def gradient(adapter):
        def loss(trained):
            joined = adapter.join(params, trained)
            return jnp.square(logits(adapter.model, joined, tokens, positions)).mean()

        return jax.grad(loss)

    def scans(adapter, trained):
        equations = jax.make_jaxpr(gradient(adapter))(trained).eqns
        return sorted(e.params["length"] for e in equations if e.primitive.name == "scan")

    padded = jax.tree.map(
        lambda own, like: jnp.concatenate([jnp.zeros_like(like[:-1]), own]),
        trained,
        whole.init(jax.random.key(0)),
    )
    assert scans(whole, padded) == [4, 4]
    assert scans(adapter, trained) == [1, 1, 3]
    expected = jax.tree.map(lambda leaf: leaf[-1:], gradient(whole)(padded))
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-7),
        gradient(adapter)(trained),
        expected,
    )


def loss_of(adapter, params, tokens, positions):
    """(loss of the trained weights, the same by way of the sums W + s B A)."""

    def apart(trained):
        joined = adapter.join(params, trained)
        return jnp.square(logits(adapter.model, joined, tokens, positions)).mean()

    def summed(trained):
        sums = merged(adapter.join(params, trained), "float32")
        return jnp.square(logits(adapter.model, sums, tokens, positions)).mean()

    return apart, summed


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gemma-2", "deepseek"])
def test_the_gradient_is_that_of_the_sums_on_a_mesh_too(bases, rows, error_of, family):
    folder = bases[family][1]
    adapter, params, trained = adapter_of(folder)
    tokens, positions = map(jnp.asarray, rows([11, 5, 8, 11]))
    apart, summed = loss_of(adapter, params, tokens, positions)
    expected = jax.jit(jax.grad(summed))(trained)
    jax.tree.map(lambda leaf: np.any(leaf) or 1 / 0, expected)
    mesh = make_mesh(MeshConfig(1, 2, 2), jax.devices()[:4])
    rules = {**TRAIN_RULES, "vocab": None}  # 97 entries
    _, spread = hf.load_folder(folder, mesh, rules)
    shardings = shardings_of(adapter.axes(), mesh, TRAIN_RULES)
    places = jax.device_put(trained, shardings)
    with jax.set_mesh(mesh):
        of_mesh = jax.jit(
            jax.grad(loss_of(adapter, spread, tokens, positions)[0]), out_shardings=shardings
        )(places)
    for found in (jax.jit(jax.grad(apart))(trained), of_mesh):
        jax.tree.map(lambda a, b: error_of(a, b) < TOLERANCE or 1 / 0, found, expected)


@pytest.mark.slow
def test_no_gradient_of_a_matrix_is_made_on_the_way_to_that_of_its_change():
    """By the compiler's count: two forward passes and the ranks' own products, where training all
    weights takes three."""
    model = Model(Gemma2Config(97, 4, 64, 128, 4, 2, 16, 16.0, 8, max_position=64))
    adapter = Adapter(model, rank=2, alpha=ALPHA)
    tokens = jax.ShapeDtypeStruct((16, 16), jnp.int32)

    def flops(function, *shapes):
        return jax.jit(function).lower(*shapes).compile().cost_analysis()["flops"]

    def loss(params, tokens):
        return model.hidden(params, tokens, jnp.broadcast_to(jnp.arange(16), (16, 16))).sum()

    def adapted(trained, params, tokens):
        return loss(adapter.join(params, trained), tokens)

    params, trained = model.abstract(), adapter.abstract()
    forward = flops(loss, params, tokens)
    assert flops(jax.grad(loss), params, tokens) > 2.8 * forward
    assert flops(jax.grad(adapted), trained, params, tokens) < 2.5 * forward


@pytest.mark.slow
def test_no_copy_of_a_matrix_is_kept_for_the_backward_pass():
    """Not even of matrices that are computed with in another type than they are stored in."""
    config = Gemma2Config(97, 4, 64, 128, 4, 2, 16, 16.0, 8, max_position=64)
    model = Model(config, dtype="float32", param_dtype="bfloat16")
    adapter = Adapter(model, rank=2, alpha=ALPHA)
    at = jnp.arange(4)[None]

    def loss(trained, params):
        return model.hidden(adapter.join(params, trained), at, at).sum()

    shapes = adapter.abstract(), model.abstract()
    equations = jax.make_jaxpr(jax.grad(loss))(*shapes).eqns
    forward, _ = (e for e in equations if e.primitive.name == "scan")
    kept = [value.aval.size for value in forward.outvars]
    smallest = shapes[1]["pairs"]["local"]["k"].size
    assert max(kept) < smallest


def test_layers_that_cannot_be_changed_alone_are_a_sentence(bases):
    model, _ = hf.load_folder(bases["gemma-2"][1])
    for layers in (1, 3, 6):
        with pytest.raises(ValueError, match=rf"layers is {layers}, but .* so many: 2, 4\."):
            Adapter(model, RANK, ALPHA, layers=layers)


@pytest.mark.parametrize("family", ["gemma-2", "llama"])
def test_ours_reads_an_adapter_of_peft(bases, rows, run_hf, error_of, tmp_path, family):
    """With a scale of its own (rslora), on two matrices of some layers only."""
    peft = pytest.importorskip("peft")
    module, folder = bases[family]
    again = type(module)(module.config).eval()
    again.load_state_dict(module.state_dict())
    config = peft.LoraConfig(
        r=RANK,
        lora_alpha=5,
        use_rslora=True,
        target_modules=["q_proj", "down_proj"],
        layers_to_transform=[0, 3],
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        changed = peft.get_peft_model(again, config).eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, weight in changed.named_parameters():
                if "lora_" in name:
                    weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
        changed.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / ADAPTER).read_text())
    settings["base_model_name_or_path"] = str(folder)
    (tmp_path / ADAPTER).write_text(json.dumps(settings))
    tokens, positions = rows([9, 12])
    real = positions >= 0
    ours = jax.jit(logits, static_argnums=0)(*hf.load_folder(tmp_path), tokens, positions)
    assert error_of(ours[real], run_hf(changed, tokens, positions).logits[real]) < TOLERANCE


def test_a_scalar_head_is_saved_with_the_adapter(make_hf, rows, run_hf, error_of, tmp_path):
    """For transformers' class of a scalar head, over a folder that has none."""
    module, folder = make_hf()
    model, params = hf.load_folder(folder)
    adapter = Adapter(model.as_head("scalar"), RANK, ALPHA, ("v_proj", "o_proj"))
    trained = random_adapter(adapter)
    write_adapter(tmp_path, adapter, trained, str(folder))
    assert config_from_hf(tmp_path)[1] == "scalar"
    tokens, positions = rows([11, 5])

    @partial(jax.jit, static_argnums=0)
    def score(model, params):
        at = jnp.asarray(positions)
        return model.score(params, model.hidden(params, jnp.asarray(tokens), at), at)

    ours = score(adapter.model, adapter.join(params, trained))
    again, loaded = hf.load_folder(tmp_path)
    assert again == adapter.model
    np.testing.assert_allclose(score(again, loaded), ours, rtol=1e-4, atol=1e-5)
    settings = transformers.Gemma2Config(**{**SIZES, "num_labels": 1}, attn_implementation="eager")
    classifier = transformers.Gemma2ForSequenceClassification(settings).eval()
    classifier.load_state_dict(module.state_dict(), strict=False)
    theirs = run_hf(load_peft(classifier, tmp_path), tokens, positions).logits[:, 0]
    assert error_of(ours, theirs) < TOLERANCE


def test_a_new_adapter_changes_nothing_and_is_as_large_as_it_says(bases, rows):
    adapter, params, _ = adapter_of(bases["llama"][1])
    begun = adapter.init(jax.random.key(0))
    jax.tree.map(lambda leaf, shape: leaf.shape == shape.shape or 1 / 0, begun, adapter.abstract())
    model, (tokens, positions) = adapter.model, rows([7, 4])
    forward = jax.jit(logits, static_argnums=0)
    np.testing.assert_array_equal(
        forward(model, adapter.join(params, begun), tokens, positions),
        forward(model, params, tokens, positions),
    )


def test_an_adapter_on_a_mesh_is_the_same(bases, tmp_path):
    """Its arrays lie along the axes of their matrices; it merges into weights that are spread."""
    _, folder = bases["gemma-2"]
    adapter, _, trained = adapter_of(folder)
    write_adapter(tmp_path, adapter, trained, str(folder))
    _, alone = hf.load_folder(tmp_path)
    mesh = make_mesh(MeshConfig(2, 2, 2))
    rules = {**TRAIN_RULES, "vocab": None}  # 97 entries
    _, spread = hf.load_folder(tmp_path, mesh, rules)
    # How a product rounds depends on its shape, and that on the processor: an AVX-512 one is apart
    # by one unit in the last place of the largest weights, others not at all.
    last_place = partial(np.testing.assert_allclose, rtol=0, atol=2**-23)
    jax.tree.map(last_place, alone, spread)
    shardings = shardings_of(adapter.axes(), mesh, TRAIN_RULES)
    own = shardings_of(adapter.model.axes(), mesh, TRAIN_RULES)["pairs"]["local"]
    for name, out, inside in (("q", 1, 2), ("o", 3, 1), ("up", 2, 1), ("down", 2, 1)):
        ours = shardings["pairs"]["local"][name]
        assert ours["b"].spec[1] == own[name].spec[out]
        assert ours["a"].spec[2] == own[name].spec[inside]


@pytest.fixture
def saved(bases, tmp_path):
    """An adapter's folder, and the adapter."""
    _, folder = bases["gemma-2"]
    adapter, _, trained = adapter_of(folder, targets=("q_proj", "up_proj"))
    write_adapter(tmp_path, adapter, trained, str(folder))
    return tmp_path, adapter, trained


def test_an_adapter_is_read_back_to_be_trained_on(saved):
    folder, adapter, trained = saved
    jax.tree.map(np.testing.assert_array_equal, read_adapter(folder, adapter), trained)
    other = Adapter(adapter.model, RANK + 1, ALPHA, adapter.targets)
    with pytest.raises(ValueError, match=r"rank 3 and alpha 6 for q_proj, up_proj.*rank 4"):
        read_adapter(folder, other)


def test_a_path_that_begins_at_the_adapter_is_found(saved, bases):
    folder, *_ = saved
    shutil.copytree(bases["gemma-2"][1], folder / "base")
    change(folder, base_model_name_or_path="base")
    hf.load_folder(folder)


def change(folder: Path, **settings) -> None:
    path = folder / ADAPTER
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def rewrite(folder: Path, change) -> None:
    tensors = load_file(folder / ADAPTER_WEIGHTS)
    change(tensors)
    save_file(tensors, folder / ADAPTER_WEIGHTS)


FIRST = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: change(f, peft_type="IA3"), "peft_type is 'IA3', but only 'LORA'"),
        (lambda f: change(f, use_dora=True), "use_dora is True.*merge_and_unload"),
        (lambda f: change(f, init_lora_weights="pissa"), "init_lora_weights is 'pissa'"),
        (lambda f: change(f, rank_pattern={"q": 4}), "rank_pattern is"),
        (lambda f: change(f, r=0), "r must be a number above 0, but is 0"),
        (lambda f: change(f, r=4), r"q_proj.lora_A.weight is \[3, 32\], but .* say \[4, 32\]"),
        (lambda f: change(f, base_model_name_or_path=None), "not known which model"),
        (lambda f: change(f, base_model_name_or_path=str(f)), "an adapter itself: merge that"),
        (lambda f: rewrite(f, lambda t: t.pop(FIRST)), "0.self_attn.q_proj.lora_A.weight is miss"),
        (
            lambda f: rewrite(f, lambda t: t.update({FIRST: t[FIRST] * np.nan})),
            "q_proj.lora_A.weight holds numbers that are not finite",
        ),
        (
            lambda f: rewrite(f, lambda t: t.update({"other.lora_A.weight": np.zeros((3, 4))})),
            "other.lora_A.weight is not of this model",
        ),
        (lambda f: (f / ADAPTER_WEIGHTS).write_bytes(b"x"), "not a whole safetensors file"),
    ],
)
def test_an_adapter_that_is_not_computed_or_does_not_fit_is_a_sentence(saved, damage, words):
    folder, *_ = saved
    damage(folder)
    with pytest.raises(ValueError, match=words) as caught:
        hf.load_folder(folder)
    assert str(folder) in str(caught.value)


def test_a_model_that_an_adapter_is_for_and_that_is_not_here_is_named(saved, monkeypatch):
    def offline(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    folder, *_ = saved
    for name in ("someone/model", "/nowhere/model"):
        change(folder, base_model_name_or_path=name)
        with pytest.raises(FileNotFoundError, match=rf"is an adapter for {name}, which is needed"):
            hf.load_folder(folder)
    (folder / ADAPTER_WEIGHTS).unlink()


def test_a_matrix_that_a_model_does_not_have_is_named(bases):
    with pytest.raises(ValueError, match=r"names wq, but the matrices of this model are down_proj"):
        adapter_of(bases["llama"][1], targets=("wq", "q_proj"))
