"""Hugging Face folders: what comes in equals what went out, for us and for transformers."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from jax.sharding import PartitionSpec
from safetensors.numpy import load_file, save_file

from grm_jax.mesh import MeshConfig
from grm_jax.models.hf import load_folder, save_folder
from grm_jax.models.hf_tensors import Stored
from grm_jax.models.model import Model
from grm_jax.sharding import DECODE_RULES, TRAIN_RULES, make_mesh
from grm_jax.text.tokenizer import Tokenizer
from tests.models.folders import SMALL, assert_same_bits, random_params

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


def test_a_mesh_that_does_not_divide_is_refused(exported):
    mesh = make_mesh(MeshConfig(1, 2, 4))
    with pytest.raises(ValueError, match="the kv_heads dimension has 2 entries, which tensor=4"):
        load_folder(exported[0], mesh, {**TRAIN_RULES, "vocab": None})


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
