"""GGUF files: what is read of them equals what they stand for, and every fault is a sentence."""

from __future__ import annotations

import contextlib
import struct
import sys
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

pytest.importorskip("gguf")

from grm_jax.judging.folder import load_model_folder
from grm_jax.mesh import MeshConfig
from grm_jax.models import rope
from grm_jax.models.config import Gemma2Config, Gemma3Config, LlamaConfig, Qwen3Config
from grm_jax.models.hf import load_folder, save_folder
from grm_jax.models.hf_config import config_from_hf
from grm_jax.models.model import Model
from grm_jax.models.spec import LinearScaling, Llama3Scaling, Rope
from grm_jax.sharding import TRAIN_RULES, make_mesh
from grm_jax.text.gguf_file import read_header
from grm_jax.text.tokenizer import Tokenizer
from tests.gguf_files import SCALES, by_transformers, tokens_of, write_gguf

BASE = Rope(3000.0)
LLAMA = LlamaConfig(97, 2, 256, 256, 4, 2, 64, BASE, tied=True, max_position=64)
QWEN3 = Qwen3Config(97, 2, 64, 32, 4, 2, 16, BASE, max_position=64)
# llama.cpp scales by the head's size, and transformers by 256.
GEMMA3 = Gemma3Config(97, 7, 256, 256, 2, 1, 256, 256.0, 8, BASE, max_position=64)
GEMMA2 = Gemma2Config(97, 2, 64, 32, 4, 2, 32, 32.0, 8, 5.0, 4.0, 3000.0, max_position=64)
SMALL = {"llama": LLAMA, "qwen3": QWEN3, "gemma3": GEMMA3, "gemma2": GEMMA2}
PLAIN = ["F32", "F16", "BF16"]
BLOCKS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", *SCALES]


def folder_of(config, path):
    """A Hugging Face folder of random weights, and its tensors."""
    model = Model(config)
    leaves, tree = jax.tree.flatten(model.abstract())
    rng = np.random.default_rng(0)
    values = [rng.normal(0, 0.06, leaf.shape).astype(np.float32) for leaf in leaves]
    save_folder(model, tree.unflatten([*map(jax.numpy.asarray, values)]), path)
    return load_file(path / "model.safetensors")


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    """family -> (its folder, its tensors)."""
    made = {}
    for family, config in SMALL.items():
        folder = tmp_path_factory.mktemp("hf") / family
        made[family] = folder, folder_of(config, folder)
    return made


def mixed(name: str) -> str:
    """A type for each matrix, as files of llama.cpp mix them."""
    kinds = {
        "embed": "Q8_0",
        "q_proj": "Q5_0",
        "k_proj": "Q4_1",
        "v_proj": "Q6_K",
        "o_proj": "Q4_K",
    }
    return next((kind for part, kind in kinds.items() if part in name), "Q8_0")


def assert_same_bits(ours, theirs):
    def compare(path, a, b):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), str(path))

    jax.tree_util.tree_map_with_path(compare, ours, theirs)


def in_folder(folder, kept):
    """The weights of a Hugging Face folder once it has these tensors."""
    before = load_file(folder / "model.safetensors")
    save_file(kept, folder / "model.safetensors")
    try:
        return load_folder(folder, param_dtype="float32")[1]
    finally:
        save_file(before, folder / "model.safetensors")


@pytest.mark.parametrize("kind", [*PLAIN, *BLOCKS])
def test_every_type_reads_as_the_numbers_that_it_stands_for(states, tmp_path, kind):
    folder, state = states["llama"]
    kept = write_gguf(tmp_path / "m.gguf", LLAMA, state, lambda _: kind)
    model, params = load_folder(tmp_path / "m.gguf")
    assert model.config == LLAMA
    assert model.param_dtype == ("bfloat16" if kind == "BF16" else "float32")
    wanted = in_folder(folder, kept)
    assert_same_bits(params, jax.tree.map(lambda leaf: leaf.astype(model.param_dtype), wanted))


@pytest.mark.parametrize("family", SMALL)
def test_every_family_comes_back_from_a_file(states, tmp_path, family):
    folder, state = states[family]
    kept = write_gguf(tmp_path / "m.gguf", SMALL[family], state)
    model, params = load_folder(tmp_path / "m.gguf")
    assert model.config == SMALL[family]
    assert_same_bits(params, in_folder(folder, kept))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_transformers_computes_the_same_from_the_same_file(
    states, tmp_path, rows, run_hf, error_of, family
):
    tokens, positions = rows([20, 5, 13])
    tokenizer = tokens_of(
        [str(i) for i in range(97)], [1] * 97, "gpt2", pre="gpt-2", merges=["1 2"]
    )
    write_gguf(tmp_path / "m.gguf", SMALL[family], states[family][1], mixed, tokenizer)
    model, params = load_folder(tmp_path / "m.gguf")
    module = by_transformers(tmp_path / "m.gguf")

    @jax.jit
    def ours(params, tokens, positions):
        return model.logits(params, model.hidden(params, tokens, positions))

    real = positions >= 0
    theirs = run_hf(module, tokens, positions).logits
    assert error_of(ours(params, tokens, positions)[real], theirs[real]) < 1e-4


def test_slices_on_eight_devices_are_the_same_bits(states, tmp_path):
    """Slices that cut blocks of 256 numbers apart, of rows that are turned."""
    config, state = replace(LLAMA, vocab_size=96), states["llama"][1]
    table = {"model.embed_tokens.weight": state["model.embed_tokens.weight"][:96]}
    write_gguf(tmp_path / "m.gguf", config, state | table, lambda _: "Q4_K")
    _, spread = load_folder(tmp_path / "m.gguf", make_mesh(MeshConfig(2, 2, 2)), TRAIN_RULES)
    assert_same_bits(spread, load_folder(tmp_path / "m.gguf")[1])
    leaf = jax.tree.leaves(spread)[-1]
    assert len(leaf.sharding.device_set) == 8


# The config


def config_of(path, config, state, metadata=None, **tensors):
    write_gguf(path, config, state, metadata=metadata, tensors=tensors)
    return config_from_hf(path)[0]


def test_llama_3s_scaling_is_found_in_its_tensor(states, tmp_path):
    scaled = replace(LLAMA, rope=Rope(500_000.0, Llama3Scaling(8.0, 1.0, 4.0, 8192)))
    plain = rope.frequencies(Rope(500_000.0), 64)
    factors = np.asarray(plain / rope.frequencies(scaled.rope, 64), np.float32)
    read = partial(config_of, tmp_path / "m.gguf", scaled, states["llama"][1])
    assert read(**{"rope_freqs.weight": factors}) == scaled
    with pytest.raises(ValueError, match=r"not Llama 3\.1's"):
        read(**{"rope_freqs.weight": factors[::-1].copy()})


def test_what_else_the_metadata_may_say(states, tmp_path):
    read = partial(config_of, tmp_path / "m.gguf")
    linear = {"gemma3.rope.scaling.type": "linear", "gemma3.rope.scaling.factor": 8.0}
    found = read(GEMMA3, states["gemma3"][1], linear)
    assert found == replace(GEMMA3, rope=Rope(3000.0, LinearScaling(8.0)))
    locals_ = {"gemma3.attention.sliding_window_pattern": [True, True, False] * 2 + [True]}
    assert read(GEMMA3, states["gemma3"][1], locals_) == replace(GEMMA3, pattern=3)
    # A head's size and the heads of keys follow from others where they are left out.
    left_out = {f"llama.attention.{key}": None for key in ("key_length", "value_length")}
    assert read(LLAMA, states["llama"][1], left_out) == LLAMA
    # An output layer of its own.
    own = states["llama"][1] | {"lm_head.weight": states["llama"][1]["model.embed_tokens.weight"]}
    assert read(LLAMA, own) == replace(LLAMA, tied=False)


@pytest.mark.parametrize("layers", [46, 26])
def test_the_27b_gemma_scales_queries_by_another_size(tmp_path, layers):
    vector = np.zeros(64, np.float32)
    state = {f"model.layers.{i}.input_layernorm.weight": vector for i in range(layers)}
    state["model.embed_tokens.weight"] = np.zeros((97, 64), np.float32)
    found = config_of(tmp_path / "m.gguf", replace(GEMMA2, num_layers=layers), state)
    assert found.query_pre_attn_scalar == (64 / 4 if layers == 46 else GEMMA2.head_dim)


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ({"general.architecture": "qwen2"}, r"architecture is 'qwen2', but only gemma2, gemma3"),
        ({"llama.expert_count": 8}, r"8 experts, which are not computed"),
        ({"llama.block_count": None}, r"llama\.block_count is missing"),
        ({"llama.block_count": 1 << 31}, r"claims 2147483648 layers, but has 20 tensors"),
        ({"llama.block_count": "two"}, r"num_hidden_layers must be a whole number"),
        ({"llama.attention.head_count": 0}, r"0 heads in a width of 256"),
        ({"llama.attention.key_length": 63}, r"size of a head is 63, but must be even"),
        (
            {"llama.rope.dimension_count": 32},
            r"rope\.dimension_count is 32 and the size of a head 64",
        ),
        ({"llama.rope.scaling.type": "longrope"}, r"type is 'longrope', which is not computed"),
        ({"llama.rope.scaling.type": "linear"}, r"factor must be a number above 0, but is None"),
        ({"llama.rope.freq_base": float("nan")}, r"rope_theta must be a number above 0"),
        ({"llama.attention.head_count_kv": [2, 2]}, r"num_key_value_heads must be a whole number"),
        (
            {"llama.feed_forward_length": 128},
            r"mlp.down_proj.weight is \[256, 256\], but the metadata",
        ),
        ({"split.count": 2}, r"one of several files .* llama-gguf-split --merge"),
    ],
    ids=lambda value: " ".join(map(str, *value.items())) if isinstance(value, dict) else "",
)
def test_models_that_are_not_computed_are_named(states, tmp_path, metadata, sentence):
    write_gguf(tmp_path / "m.gguf", LLAMA, states["llama"][1], metadata=metadata)
    with pytest.raises(ValueError, match=sentence):
        load_folder(tmp_path / "m.gguf")


def test_tensors_that_do_not_belong_are_named(states, tmp_path):
    bias = {"blk.0.attn_q.bias": np.zeros(256, np.float32)}
    write_gguf(tmp_path / "m.gguf", LLAMA, states["llama"][1], tensors=bias)
    with pytest.raises(ValueError, match=r"blk\.0\.attn_q\.bias is in the files, but not in this"):
        load_folder(tmp_path / "m.gguf")


# Damage


@pytest.fixture(scope="module")
def whole(states, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "m.gguf"
    tokenizer = tokens_of(["a", "b", "ab"], [1, 1, 1], "gpt2", pre="smollm", merges=["a b"])
    write_gguf(path, QWEN3, states["qwen3"][1], lambda _: "Q8_0", tokenizer)
    return path.read_bytes()


def test_a_file_that_is_cut_off_anywhere_says_so(whole, tmp_path):
    path = tmp_path / "m.gguf"
    for length in [*range(0, 3000, 61), len(whole) // 2, len(whole) - 64]:
        path.write_bytes(whole[:length])
        with pytest.raises(
            ValueError, match=r"too few for|cut off|Get (it|the file) anew"
        ) as raised:
            load_folder(path)
        assert str(path) in str(raised.value)


def test_no_byte_of_the_header_makes_anything_but_a_sentence(whole, tmp_path):
    """Whatever is changed: the file still loads, or a ValueError says why not."""
    path, rng = tmp_path / "m.gguf", np.random.default_rng(0)
    header = 2200
    for place in rng.choice(header, 120, replace=False):
        content = bytearray(whole)
        content[place : place + 8] = (b"\xff" * 8, b"\0" * 8, rng.bytes(8))[place % 3]
        path.write_bytes(content)
        for read in (load_folder, Tokenizer.load):
            with contextlib.suppress(ValueError):  # and nothing else
                read(path)


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (0, b"GGML", "does not begin with the letters GGUF"),
        (4, struct.pack(">I", 3), "for big-endian machines"),
        (4, struct.pack("<I", 1), "is GGUF version 1, but only 2 and 3"),
        (8, struct.pack("<Q", 1 << 62), "claims 4611686018427387904 tensors"),
        (16, struct.pack("<Q", 1 << 40), "claims 1099511627776 entries"),
    ],
)
def test_first_bytes_that_are_wrong(whole, tmp_path, place, value, sentence):
    path = tmp_path / "m.gguf"
    path.write_bytes(whole[:place] + value + whole[place + len(value) :])
    with pytest.raises(ValueError, match=sentence):
        read_header(path)


def test_types_that_cannot_be_made_plain(states, tmp_path):
    whole_numbers = {"blk.0.odd": np.zeros(4, np.int8)}
    write_gguf(tmp_path / "m.gguf", QWEN3, states["qwen3"][1], tensors=whole_numbers)
    with pytest.raises(ValueError, match=r"blk\.0\.odd is of type 24, which the installed gguf"):
        load_folder(tmp_path / "m.gguf")


# Names


def test_a_folder_that_holds_one_file_is_that_file(whole, tmp_path):
    (tmp_path / "m.gguf").write_bytes(whole)
    assert config_from_hf(tmp_path)[0] == QWEN3
    (tmp_path / "n.gguf").write_bytes(whole)
    with pytest.raises(ValueError, match=r"holds 2 GGUF files, m\.gguf, n\.gguf: give the path"):
        load_folder(tmp_path)


def test_a_part_of_a_split_model_and_a_file_that_is_not_there(whole, tmp_path):
    for part in (1, 2):
        (tmp_path / f"m-0000{part}-of-00002.gguf").write_bytes(whole)
    with pytest.raises(ValueError, match="llama-gguf-split --merge"):
        load_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"There is no file .*lost\.gguf"):
        load_folder("some/lost.gguf")


def test_without_gguf_it_says_what_to_install(whole, tmp_path, monkeypatch):
    (tmp_path / "m.gguf").write_bytes(whole)
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ValueError, match=r"pip install 'grm-jax\[gguf\]'"):
        load_folder(tmp_path / "m.gguf")


def test_a_judge_has_its_model_and_tokenizer_from_the_file(tmp_path):
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    kinds = [3] * len(pieces) + [6] * 256 + [1] * 3
    tokens = [*pieces, *(f"<0x{byte:02X}>" for byte in range(256)), "a", "b", "ab"]
    config = replace(GEMMA2, vocab_size=len(tokens))
    path = tmp_path / "m.gguf"
    write_gguf(
        path, config, folder_of(config, tmp_path / "hf"), metadata=tokens_of(tokens, kinds, "llama")
    )
    folder = load_model_folder(path)
    assert (folder.model.config, folder.path, folder.kind) == (config, path, "grm")
    assert folder.tokenizer.encode("abé") == [264, 6 + 0xC3, 6 + 0xA9]
    assert folder.tokenizer.stop_ids == (1, 5)
    assert folder.tokenizer.sha256 == Tokenizer.load(path).sha256
