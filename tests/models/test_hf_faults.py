"""A model folder with something wrong in it: every fault is a sentence that names the file."""

import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from grm_jax.models.hf import HEAD, load_folder, save_folder
from grm_jax.models.hf_tensors import INDEX, not_finite
from grm_jax.models.model import Model
from tests.models.folders import SMALL, assert_same_bits, random_params, rewrite


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


def test_only_the_first_of_many_tensors_that_do_not_fit_are_named(exported):
    def change(tensors):
        tensors.update({f"other.{i}": np.zeros(1, np.float32) for i in range(300)})

    with pytest.raises(ValueError, match="and 290 more") as caught:
        load_folder(rewrite(exported[0], change))
    assert len(str(caught.value).splitlines()) == 12


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
