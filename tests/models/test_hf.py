"""Hugging Face folders: what comes in equals what went out, and every fault is a sentence."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from jax.sharding import PartitionSpec
from safetensors.numpy import load_file, save_file

from grm_jax.mesh import MeshConfig
from grm_jax.models.config import PRESETS, Gemma2Config
from grm_jax.models.hf import HEAD, load_folder, save_folder
from grm_jax.models.hf_config import config_from_hf, config_to_hf
from grm_jax.models.hf_tensors import INDEX, Stored, not_finite
from grm_jax.models.model import Model
from grm_jax.sharding import DECODE_RULES, TRAIN_RULES, make_mesh
from grm_jax.text.tokenizer import Tokenizer

SMALL = Gemma2Config(97, 4, 32, 48, 4, 2, 16, 24.0, sliding_window=8, max_position=64)


def random_params(model: Model, seed: int = 0):
    """Weights that are all different, norms included, so that no two can be mistaken."""
    leaves, tree = jax.tree.flatten(model.abstract())
    rng = np.random.default_rng(seed)
    return tree.unflatten(
        [jnp.asarray(rng.normal(0, 0.3, leaf.shape), leaf.dtype) for leaf in leaves]
    )


def assert_same_bits(ours, theirs):
    def compare(path, a, b):
        assert a.dtype == b.dtype, path
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), str(path))

    jax.tree_util.tree_map_with_path(compare, ours, theirs)


def edit_config(folder: Path, **changes) -> Path:
    """Changes config.json; a value of `...` removes the key."""
    path = folder / "config.json"
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not ...}))
    return folder


@pytest.fixture
def exported(tmp_path):
    """A small exported folder, its model and its weights."""
    model = Model(SMALL)
    params = random_params(model)
    save_folder(model, params, tmp_path / "model")
    return tmp_path / "model", model, params


# Out and in again


@pytest.mark.parametrize("head", ["lm", "scalar"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("max_shard_bytes", [5e9, 30_000], ids=["one file", "many files"])
def test_export_and_reload_keep_every_bit(tmp_path, head, dtype, max_shard_bytes):
    model = Model(SMALL, head, dtype, dtype)
    params = random_params(model)
    save_folder(model, params, tmp_path / "m", max_shard_bytes=max_shard_bytes)
    files = list((tmp_path / "m").glob("*.safetensors"))
    if max_shard_bytes == 5e9:
        assert [file.name for file in files] == ["model.safetensors"]
        assert not (tmp_path / "m" / "model.safetensors.index.json").exists()
    else:
        assert len(files) > 3
        assert all(sum(t.nbytes for t in load_file(f).values()) <= 30_000 for f in files)
    again, loaded = load_folder(tmp_path / "m")
    assert again == model
    assert_same_bits(params, loaded)


@pytest.mark.parametrize("rules", [TRAIN_RULES, DECODE_RULES], ids=["train", "decode"])
@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 2, 2), (1, 4, 2)])
def test_slices_on_eight_devices_are_the_same_bits(tmp_path, shape, rules, monkeypatch):
    """And each byte is read once: a device's part alone, however many devices have the same."""
    model = Model(SMALL, "scalar")
    params = random_params(model)
    save_folder(model, params, tmp_path / "one")
    mesh = make_mesh(MeshConfig(*shape))
    # A vocabulary of 97 lies on one device only.
    rules = {**rules, "vocab": None}
    stored_read, counts = Stored.read, []

    def counted(tensor, index):
        part = stored_read(tensor, index)
        counts.append(part.nbytes)
        return part

    monkeypatch.setattr(Stored, "read", counted)
    again, loaded = load_folder(tmp_path / "one", mesh, rules)
    assert sum(counts) == sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    assert_same_bits(params, loaded)
    k = loaded["pairs"]["global"]["k"]
    assert k.sharding.spec == PartitionSpec(None, "tensor", rules["embed"], None)
    assert k.addressable_shards[0].data.shape[1] == 2 // shape[2]
    save_folder(again, loaded, tmp_path / "two")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_dtypes_asked_for(exported):
    folder, _, params = exported
    narrow, loaded = load_folder(folder, param_dtype="bfloat16")
    assert (narrow.dtype, narrow.param_dtype) == ("bfloat16", "bfloat16")
    assert_same_bits(jax.tree.map(lambda leaf: leaf.astype("bfloat16"), params), loaded)
    mixed, loaded = load_folder(folder, dtype="bfloat16")
    assert (mixed.dtype, mixed.param_dtype) == ("bfloat16", "float32")
    assert_same_bits(params, loaded)


def test_float16_files_are_widened(exported):
    folder, _, params = exported
    file = folder / "model.safetensors"
    save_file({name: t.astype(np.float16) for name, t in load_file(file).items()}, file)
    model, loaded = load_folder(folder)
    assert model.param_dtype == "float32"
    assert_same_bits(jax.tree.map(lambda x: x.astype("float16").astype("float32"), params), loaded)


# transformers reads what we write, and we what it writes


@pytest.mark.parametrize("head", ["lm", "scalar"])
def test_transformers_loads_an_export(tmp_path, rows, run_hf, error_of, head):
    model = Model(SMALL, head)
    params = random_params(model)
    save_folder(model, params, tmp_path / "m", max_shard_bytes=30_000)
    auto = {
        "lm": transformers.AutoModelForCausalLM,
        "scalar": transformers.AutoModelForSequenceClassification,
    }[head]
    module, report = auto.from_pretrained(
        tmp_path / "m", attn_implementation="eager", output_loading_info=True
    )
    assert not any(report.values()), report
    assert module.dtype == torch.float32
    tokens, positions = rows([20, 7])
    theirs = run_hf(module.eval(), tokens, positions).logits
    hidden = model.hidden(params, jnp.asarray(tokens), jnp.asarray(positions))
    if head == "scalar":
        assert module.config.num_labels == 1
        ours, theirs = model.score(params, hidden, jnp.asarray(positions)), theirs[:, 0]
    else:
        real = positions >= 0
        ours, theirs = model.logits(params, hidden)[real], theirs[real]
    assert error_of(ours, theirs) < 1e-4


def test_bfloat16_folder_of_transformers(make_hf):
    module, folder = make_hf(dtype=torch.bfloat16)
    model, params = load_folder(folder)
    assert model == Model(model.config, "lm", "bfloat16", "bfloat16")
    theirs = module.model.layers[3].self_attn.o_proj.weight.detach().float().numpy()
    ours = params["pairs"]["global"]["o"][1].astype(jnp.float32)
    np.testing.assert_array_equal(ours, theirs.T.reshape(4, 16, 32))


def test_tokenizer_settings_and_templates_travel(tmp_path, shared_data):
    source = shared_data / "tokenizer" / "gemma2_layout_standin_16k_hf"
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "grm.txt").write_text("{conversation}")
    model = Model(replace(SMALL, vocab_size=16_384))
    tokenizer = Tokenizer.load(source)
    for name, given in (("folder", source), ("object", tokenizer)):
        folder = tmp_path / name
        save_folder(
            model,
            random_params(model),
            folder,
            tokenizer=given,
            extra={"scale": [1, 10]},
            templates=tmp_path / "words",
        )
        assert (folder / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()
        assert json.loads((folder / "grm.json").read_text()) == {
            "scale": [1, 10],
            "tokenizer_sha256": tokenizer.sha256,
            "templates": "templates",
        }
        assert (folder / "templates" / "grm.txt").read_text() == "{conversation}"
        settings = transformers.GenerationConfig.from_pretrained(folder)
        assert settings.eos_token_id == list(tokenizer.stop_ids)
        assert transformers.AutoConfig.from_pretrained(folder).pad_token_id == tokenizer.pad_id
        words = transformers.AutoTokenizer.from_pretrained(folder)
        turns = [{"role": "user", "content": "Hello"}]
        text = words.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        assert text == "<bos><start_of_turn>user\nHello<end_of_turn>\n<start_of_turn>model\n"
        load_folder(folder)


# A folder that is there, and an export that fails


def test_a_model_folder_is_replaced_whole(exported):
    folder, model, _ = exported
    (folder / "model-00001-of-00002.safetensors").write_text("left over")
    other = random_params(model, seed=1)
    save_folder(model, other, folder)
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert_same_bits(other, load_folder(folder)[1])
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    model = Model(SMALL)
    with pytest.raises(FileExistsError, match="not a model folder, so nothing was written"):
        save_folder(model, random_params(model), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_failed_export_leaves_the_old_one(exported):
    folder, model, params = exported
    broken = {**params, "final_norm": jnp.zeros(7)}
    with pytest.raises(ValueError, match="reshape"):
        save_folder(model, broken, folder)
    assert_same_bits(params, load_folder(folder)[1])
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


# config.json


def test_spellings_of_version_4_and_5(exported):
    folder, _, _ = exported
    written = json.loads((folder / "config.json").read_text())
    assert written["torch_dtype"] == written["dtype"] == "float32"
    assert written["rope_theta"] == written["rope_parameters"]["rope_theta"] == 10_000.0
    want = (replace(SMALL, rope_theta=3000.0), "lm")
    edit_config(folder, rope_theta=3000.0, rope_parameters=..., dtype=..., layer_types=...)
    assert config_from_hf(folder) == want
    five = {"rope_type": "default", "rope_theta": 3000.0}
    edit_config(folder, rope_theta=..., rope_parameters=five, torch_dtype=..., dtype="float32")
    assert config_from_hf(folder) == want


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("head", ["lm", "scalar"])
def test_config_out_and_in(tmp_path, name, head):
    config = PRESETS[name]
    content = config_to_hf(config, head, "bfloat16")
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert config_from_hf(tmp_path) == (config, head)
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    ropes = theirs.rope_parameters
    ropes = [ropes] if "rope_theta" in ropes else list(ropes.values())
    bases = {rope["rope_theta"] for rope in ropes}
    assert bases == {layer.attention.rope.base for layer in config.spec.layers}
    assert theirs.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "mpt"}, "model_type is 'mpt', but only 'gemma2'"),
        ({"model_type": ...}, "model_type is None"),
        ({"layer_types": ["full_attention"] * 4}, "must alternate"),
        ({"layer_types": ["sliding_attention", "full_attention"]}, "over 4 layers"),
        ({"num_hidden_layers": 3, "layer_types": ...}, "num_layers is 3"),
        ({"hidden_size": ...}, "hidden_size must be a whole number, 1 or more, but is None"),
        ({"final_logit_softcapping": None}, "final_logit_softcapping is null"),
        ({"sliding_window": None}, "sliding_window is null"),
        ({"hidden_activation": "relu"}, "hidden_activation is 'relu'"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rope_type is 'yarn'"),
        ({"architectures": ["Gemma2Model"]}, "architectures is"),
        ({"architectures": ["Gemma2ForSequenceClassification"]}, "one label, but this has 2"),
        ({"architectures": "Gemma2ForCausalLM"}, "architectures is 'Gemma2ForCausalLM'"),
        ({"hidden_size": True}, "hidden_size must be a whole number, 1 or more, but is True"),
        ({"num_key_value_heads": 0}, "num_key_value_heads must be a whole number, 1 or more"),
        ({"sliding_window": "many"}, "sliding_window must be a whole number, 1 or more"),
        ({"attn_logit_softcapping": [50]}, r"attn_logit_softcapping must be a number above 0"),
        ({"rope_parameters": 7}, "rope parameters must be an object, but are 7"),
        ({"rope_parameters": {"rope_theta": "x"}}, "rope_theta must be a number above 0"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised .*'?gptq'?.*only float32"),
        ({"quantization_config": {"bits": 4}}, "quantised .*'bits': 4"),
    ],
)
def test_a_config_that_we_do_not_compute_is_refused(exported, changes, words):
    with pytest.raises(ValueError, match=words):
        load_folder(edit_config(exported[0], **changes))


# Tensors that do not fit


def rewrite(folder: Path, change) -> Path:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


def test_every_tensor_that_does_not_fit_is_named(exported):
    def change(tensors):
        del tensors["model.layers.1.self_attn.q_proj.weight"]
        tensors["model.layers.9.mlp.up_proj.weight"] = np.zeros((2, 2), np.float32)
        tensors["model.norm.weight"] = np.zeros(33, np.float32)
        tensors["model.layers.0.input_layernorm.weight"] = np.zeros(32, np.int32)

    with pytest.raises(ValueError, match="do not fit") as caught:
        load_folder(rewrite(exported[0], change))
    assert str(caught.value).splitlines()[1:] == [
        "  model.layers.1.self_attn.q_proj.weight is missing",
        "  model.layers.0.input_layernorm.weight is I32, but only F32, BF16, F16 are read",
        "  model.layers.9.mlp.up_proj.weight is in the files, but not in this model",
        "  model.norm.weight is [33], but config.json says [32]",
    ]


def test_padding_rows_of_the_embedding_are_cut(exported):
    folder, _, params = exported
    name = "model.embed_tokens.weight"

    def pad(tensors):
        tensors[name] = np.concatenate([tensors[name], np.full((128, 32), 9, np.float32)])
        tensors["lm_head.weight"] = tensors[name].copy()  # tied files may repeat it

    assert_same_bits(params, load_folder(rewrite(folder, pad))[1])

    def cut(tensors):
        tensors[name] = tensors[name][:96]

    with pytest.raises(ValueError, match=r"is \[96, 32\], but config.json says \[97, 32\]"):
        load_folder(rewrite(folder, cut))


def test_a_head_of_its_own_is_refused_since_transformers_uses_it(make_hf, tmp_path):
    module, folder = make_hf()
    tokens = torch.arange(1, 9)[None]
    table = module.model.embed_tokens.weight.detach().numpy()
    for name, head in (("same", table), ("other", table * 2)):
        shutil.copytree(folder, tmp_path / name)
        rewrite(tmp_path / name, lambda tensors, head=head: tensors.update({HEAD: head.copy()}))
        loaded = transformers.Gemma2ForCausalLM.from_pretrained(tmp_path / name)
        with torch.no_grad():
            same = torch.allclose(loaded(tokens).logits, module(tokens).logits, atol=1e-4)
        assert same == (name == "same")
    load_folder(tmp_path / "same")
    with pytest.raises(ValueError, match=r"lm_head\.weight is not the same as model\.embed_tokens"):
        load_folder(tmp_path / "other")
    # A folder that scores has no use for it.
    score = make_hf("score")[1]
    load_folder(rewrite(score, lambda tensors: tensors.update({HEAD: table * 2})))


def test_one_other_number_anywhere_in_the_head_is_seen(exported, monkeypatch):
    folder, _, _ = exported
    monkeypatch.setattr("grm_jax.models.hf.ROWS_BYTES", 4 * 32 * 10)  # ten rows at a time, of 97

    def change(tensors):
        tensors[HEAD] = tensors["model.embed_tokens.weight"].copy()
        tensors[HEAD][96, 31] += 1

    with pytest.raises(ValueError, match="is not the same as"):
        load_folder(rewrite(folder, change))


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("head", ["lm", "scalar"])
def test_one_number_that_is_not_finite_is_refused_by_its_tensor(tmp_path, head, dtype, value):
    model = Model(SMALL, head, dtype, dtype)
    params = random_params(model)
    name = "score.weight" if head == "scalar" else "model.layers.1.mlp.up_proj.weight"
    leaf = params["score"] if head == "scalar" else params["pairs"]["global"]["up"]
    changed = leaf.at[(0,) * leaf.ndim].set(value)
    if head == "scalar":
        params["score"] = changed
    else:
        params["pairs"]["global"]["up"] = changed
    save_folder(model, params, tmp_path / "m")
    with pytest.raises(ValueError, match=rf"model\.safetensors: {name} holds .* not finite"):
        load_folder(tmp_path / "m")


@pytest.mark.parametrize("dtype", [np.float32, np.float16, jnp.bfloat16])
def test_the_largest_and_the_smallest_numbers_are_finite(dtype):
    limits = jnp.finfo(dtype)
    extreme = np.array([[limits.max, limits.min, 0.0, -0.0, limits.smallest_subnormal]], dtype)
    assert not not_finite(extreme)
    assert not not_finite(extreme[:, :0])
    for value in (np.nan, -np.nan, np.inf, -np.inf):
        assert not_finite(np.append(extreme, np.array(value, dtype)))


def cut_index(folder: Path) -> None:
    (folder / INDEX).write_text('{"metadata": {},\n "weight_m')


def pointer(name: str):
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    return lambda folder: (folder / name).write_text(text)


def adapter(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text("{}")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut_index, r"index\.json:2 is not JSON \(Unterminated string.*Get it again"),
        (lambda folder: (folder / INDEX).write_text("[]"), r"index\.json holds a list, where"),
        (lambda folder: (folder / INDEX).write_text("{}"), r"index\.json has no weight_map"),
        (
            lambda folder: (folder / INDEX).write_text('{"weight_map": {"a": "../b"}}'),
            r"index\.json has no weight_map that gives each tensor the name of a file beside it",
        ),
        (lambda folder: (folder / INDEX).mkdir(), r"index\.json is a folder"),
        (lambda folder: (folder / "config.json").write_text("null"), r"config\.json holds null"),
        (
            lambda folder: (folder / "config.json").write_bytes(b"{\xff"),
            r"config\.json is not UTF-8",
        ),
        (
            lambda folder: (folder / "config.json").write_text('{"a": ' + "[" * 10**5),
            r"config\.json cannot be read as JSON",
        ),
        (pointer("config.json"), r"config\.json is a git-LFS pointer.*git lfs pull"),
        (pointer("model.safetensors"), r"model\.safetensors is a git-LFS pointer.*git lfs pull"),
        (adapter, r"adapter_config\.json: base_model_name_or_path is None.*which model"),
    ],
)
def test_a_damaged_folder_is_a_sentence_with_the_files_name(exported, damage, words):
    damage(exported[0])
    with pytest.raises(ValueError, match=words) as caught:
        load_folder(exported[0])
    assert str(exported[0]) in str(caught.value)


def test_what_looks_like_a_path_is_never_asked_of_the_hub(tmp_path, monkeypatch):
    def asked(*_, **__):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("huggingface_hub.snapshot_download", asked)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", asked)
    for name in ("./missing", "../missing", "/missing", "~/missing", "runs/missing/model"):
        with pytest.raises(FileNotFoundError, match="There is no model folder"):
            load_folder(name)
        with pytest.raises(FileNotFoundError, match="there is no tokenizer at"):
            Tokenizer.load(name)
    (tmp_path / "model.gguf").write_text("x")
    with pytest.raises(ValueError, match=r"model\.gguf is a file: give the folder"):
        load_folder(tmp_path / "model.gguf")


def test_a_name_that_may_be_both_is_told_what_lies_beside_it(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    (tmp_path / "runs" / "sft").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"There is no folder runs/stf .*; runs holds sft"):
        load_folder("runs/stf")


def test_only_the_first_of_many_tensors_that_do_not_fit_are_named(exported):
    def change(tensors):
        tensors.update({f"other.{i}": np.zeros(1, np.float32) for i in range(300)})

    with pytest.raises(ValueError, match="and 290 more") as caught:
        load_folder(rewrite(exported[0], change))
    assert len(str(caught.value).splitlines()) == 12


def test_files_that_are_not_there_or_not_whole(exported, tmp_path):
    folder, model, params = exported
    save_folder(model, params, folder, max_shard_bytes=30_000)
    second = sorted(folder.glob("*.safetensors"))[1]
    second.unlink()
    with pytest.raises(FileNotFoundError, match=f"lacks {second.name}, which model.safetensors.in"):
        load_folder(folder)
    save_folder(model, params, folder)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        load_folder(folder)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks model\.safetensors, and has no"):
        load_folder(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        load_folder(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        load_folder(folder)
    with pytest.raises(FileNotFoundError, match=r"no model folder .*nowhere"):
        load_folder(tmp_path / "nowhere")


def test_a_hub_that_cannot_be_reached_is_a_sentence(monkeypatch):
    import huggingface_hub

    def offline(*_, **__):
        raise ConnectionError("name resolution failed")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(FileNotFoundError, match=r"name resolution failed.*give the local folder"):
        load_folder("google/gemma-2-2b")


def test_a_hub_id_is_downloaded(exported, monkeypatch):
    import huggingface_hub

    folder, _, params = exported
    asked = []

    def download(repo_id, allow_patterns):
        asked.append(repo_id)
        names = [p.name for p in folder.iterdir()]
        assert all(any(Path(n).match(p) for p in allow_patterns) for n in names)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert_same_bits(params, load_folder("someone/gemma")[1])
    assert asked == ["someone/gemma"]


def test_a_mesh_that_does_not_divide_is_refused(exported):
    mesh = make_mesh(MeshConfig(1, 2, 4))
    with pytest.raises(ValueError, match="the kv_heads dimension has 2 entries, which tensor=4"):
        load_folder(exported[0], mesh, {**TRAIN_RULES, "vocab": None})
