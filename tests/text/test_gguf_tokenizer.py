"""Tokenizers of GGUF files: the ids of the tokenizer that the file was made from."""

import json
import sys

import pytest
import transformers

pytest.importorskip("gguf")

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from grm_jax.models.config import Qwen3Config
from grm_jax.text.gguf_tokenizer import read_gguf_tokenizer
from tests.gguf_files import tokens_of, write_gguf

CONFIG = Qwen3Config(8, 1, 8, 8, 1, 1, 8)
TEXTS = [
    "The judge gave 12 points, and then 3 more.",
    "1. First\n\n2. Second\n   3.  Third   4\n",
    "a   5b  67\t89\n\n\n10",
    "It's the judge's; THEY'LL say ÜBER café naïve 你好 👩‍🔬",
    "<|im_start|>user\nhello<|im_end|>\n",
    " leading, trailing  ",
    "x²+½=٣",
]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


@pytest.fixture
def file(tmp_path):
    """file(metadata) -> a file of no tensors that has a tokenizer."""

    def make(metadata, family="qwen3"):
        config = metadata | {"general.architecture": family}
        write_gguf(tmp_path / "m.gguf", CONFIG, {}, metadata=config)
        return tmp_path / "m.gguf"

    return make


def byte_pairs(splits):
    """A small byte-level tokenizer that was trained on the texts."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(splits)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([text for text in TEXTS if "<|" not in text] * 3, trainer)
    return made


def metadata_of(made, split):
    model = json.loads(made.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    kinds = [3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL))
    merges = [" ".join(pair) for pair in model["merges"]]
    ids = {"bos_token_id": 1, "eos_token_id": 2, "padding_token_id": 2, "eot_token_id": 0}
    ids |= {"add_bos_token": False}
    template = {"tokenizer.chat_template": "{{ messages }}"}
    return tokens_of(tokens, kinds, "gpt2", pre=split, merges=merges, **ids) | template


BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
WORDS = pre_tokenizers.ByteLevel(add_prefix_space=False)
# As in the tokenizer.json of SmolLM2, Llama 3 and Qwen3.
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLITS = {
    "smollm": [pre_tokenizers.Digits(individual_digits=True), WORDS],
    "gpt-2": [WORDS],
    "llama-bpe": [pre_tokenizers.Split(Regex(LLAMA3), "isolated"), BYTES],
    "qwen2": [pre_tokenizers.Split(Regex(LLAMA3.replace("{1,3}", "")), "isolated"), BYTES],
}


@pytest.mark.parametrize("split", SPLITS)
def test_a_byte_level_tokenizer_comes_back(file, split):
    made = byte_pairs(SPLITS[split])
    read = read_gguf_tokenizer(file(metadata_of(made, split)))
    ours = Tokenizer.from_buffer(read.json)
    for text in TEXTS:
        assert ours.encode(text).ids == made.encode(text).ids
        assert ours.decode(ours.encode(text).ids, skip_special_tokens=False) == text
    assert read.config == {
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "add_bos_token": False,
        "chat_template": "{{ messages }}",
    }
    assert read.stop_ids == (2, 0)
    added = ours.get_added_tokens_decoder().values()
    assert [(token.content, token.special) for token in added] == [(t, True) for t in SPECIAL]


def test_digits_stand_alone_only_where_they_did(file):
    """What tells SmolLM2's split from GPT-2's: spaces before a digit stay together."""
    text = "a\n\n1"
    pieces = {}
    for split in ("smollm", "gpt-2"):
        read = read_gguf_tokenizer(file(metadata_of(byte_pairs(SPLITS["smollm"]), split)))
        pieces[split] = Tokenizer.from_buffer(read.json).encode(text).tokens
    assert pieces == {"smollm": ["a", "ĊĊ", "1"], "gpt-2": ["a", "Ċ", "Ċ", "1"]}


def test_gemmas_pieces_are_merged_as_in_transformers(file):
    controls = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    own = ["\n\n", "  ", "   ", "<b>"]  # several spaces are written as such
    letters = sorted({c for text in TEXTS for c in text if c.isascii() and c.isalnum()} | {*"▁.,'"})
    words = [
        "th",
        "he",
        "the",
        "▁th",
        "▁the",
        "▁j",
        "ud",
        "ge",
        "judge",
        "▁judge",
        "▁point",
        "nd",
        "an",
    ]
    tokens = [*controls, *own, *(f"<0x{byte:02X}>" for byte in range(256)), *words, *letters]
    kinds = [3] * len(controls) + [4] * len(own) + [6] * 256 + [1] * (len(words) + len(letters))
    ids = {"bos_token_id": 2, "eos_token_id": 1, "padding_token_id": 0, "unknown_token_id": 3}
    scores = [-float(i) for i in range(len(tokens))]
    path = file(tokens_of(tokens, kinds, "llama", scores=scores, **ids), "gemma3")
    ours = Tokenizer.from_buffer(read_gguf_tokenizer(path).json)
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(path.parent, gguf_file=path.name)
    for text in [*TEXTS, "the judge  and the<b>   judge</b>\n\n\nthe", "<start_of_turn>user"]:
        assert ours.encode(text).ids == theirs.encode(text, add_special_tokens=False)
        assert ours.decode(ours.encode(text).ids, skip_special_tokens=False) == text


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"tokens": None}, r"has no tokenizer: give that of the model"),
        ({"tokens": [1, 2]}, r"has no tokenizer"),
        ({"model": "t5"}, r"of the kind 't5', but only 'gpt2' and Gemma's"),
        ({"model": "llama"}, r"of the kind 'llama', but only 'gpt2' and Gemma's"),
        ({"pre": "tekken"}, r"splits text as 'tekken' does, but only gpt-2, smollm"),
        ({"merges": ["a"]}, r"merges are not pairs"),
        ({"merges": None}, r"merges are not pairs"),
        ({"tokens": ["a", "b", "a"]}, r"a token of its vocabulary is there twice"),
        ({"eos_token_id": 3}, r"eos_token_id is 3, but there are 3 tokens"),
    ],
    ids=str,
)
def test_tokenizers_that_are_not_known_are_named(file, changes, sentence):
    good = tokens_of(["a", "b", "ab"], [1, 1, 1], "gpt2", pre="smollm", merges=["a b"])
    path = file(good | {f"tokenizer.ggml.{key}": value for key, value in changes.items()})
    with pytest.raises(ValueError, match=sentence) as raised:
        read_gguf_tokenizer(path)
    assert str(path) in str(raised.value)


def test_the_tokenizer_needs_no_gguf(file, monkeypatch):
    path = file(tokens_of(["a", "b", "ab"], [1, 1, 1], "gpt2", pre="smollm", merges=["a b"]))
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert Tokenizer.from_buffer(read_gguf_tokenizer(path).json).encode("ab").ids == [2]
