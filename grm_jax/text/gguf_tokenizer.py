"""The tokenizer that a GGUF file describes, spelled as Hugging Face spells it.

A file has the vocabulary, the merges of a byte-level one, and the name of what splits a text before
it is merged; all else is in llama.cpp's code, and here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grm_jax.text.gguf_file import read_header

# Kinds of tokens.
_CONTROL, _USER_DEFINED = 3, 4

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA_3 = rf"{_WORDS}|\p{{N}}{{1,3}}|{_REST}"
_QWEN_2 = rf"{_WORDS}|\p{{N}}|{_REST}"


def _byte_level(use_regex: bool) -> dict[str, Any]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": use_regex,
    }


def _split(regex: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


# What splits a text before the bytes of each part are merged, by its name in the file.
_SPLITS: dict[str, list[dict[str, Any]]] = {
    "gpt-2": [_byte_level(True)],
    "smollm": [{"type": "Digits", "individual_digits": True}, _byte_level(True)],
    "llama-bpe": [_split(_LLAMA_3), _byte_level(False)],
    "qwen2": [_split(_QWEN_2), _byte_level(False)],
}


@dataclass(frozen=True)
class GGUFTokenizer:
    """`json`: the content of a tokenizer.json. `config`: that of a tokenizer_config.json, with
    `bos_token`, `eos_token`, `pad_token`, `unk_token`, `add_bos_token` and `chat_template` where
    the file has them. `stop_ids`: the tokens that end a text, a turn or a message."""

    json: bytes
    config: dict[str, Any]
    stop_ids: tuple[int, ...]


def read_gguf_tokenizer(path: Path) -> GGUFTokenizer:
    """The tokenizer of a GGUF file.

    Raises:
        ValueError: the file cannot be read, has no tokenizer, or one of a kind not known here.
    """
    metadata = read_header(path).metadata
    tokens = metadata.get("tokenizer.ggml.tokens")
    if not _texts(tokens) or not tokens:
        raise ValueError(
            f"{path} has no tokenizer: give that of the model, a folder (--tokenizer)."
        )
    kind = metadata.get("tokenizer.ggml.model")
    gemma = str(metadata.get("general.architecture")).startswith("gemma")
    if kind == "gpt2":
        content = _byte_pairs(path, metadata, tokens)
    elif kind == "llama" and gemma:
        content = _gemma(tokens)
    else:
        raise ValueError(
            f"{path}: its tokenizer is of the kind {kind!r}, but only 'gpt2' and Gemma's 'llama' "
            "are read from GGUF. Give the tokenizer of the model, a folder (--tokenizer)."
        )
    if len(content["model"]["vocab"]) != len(tokens):
        raise ValueError(f"{path} is damaged: a token of its vocabulary is there twice.")
    content["added_tokens"] = _added(content["model"]["vocab"], tokens, metadata)
    stops = (_token(path, metadata, key, len(tokens)) for key in ("eos", "eot", "eom"))
    return GGUFTokenizer(
        json=json.dumps(content, ensure_ascii=False).encode(),
        config=_config(path, tokens, metadata),
        stop_ids=tuple(dict.fromkeys(stop for stop in stops if stop is not None)),
    )


def _byte_pairs(path: Path, metadata: Mapping[str, Any], tokens: Sequence[str]) -> dict[str, Any]:
    split, merges = metadata.get("tokenizer.ggml.pre"), metadata.get("tokenizer.ggml.merges")
    if split not in _SPLITS:
        raise ValueError(
            f"{path}: its tokenizer splits text as {split!r} does, but only {', '.join(_SPLITS)} "
            "are known here. Give the tokenizer of the model, a folder (--tokenizer)."
        )
    pairs = [merge.split(" ") for merge in merges] if merges and _texts(merges) else []
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"{path} is damaged: its tokenizer's merges are not pairs of tokens.")
    return {
        "normalizer": {"type": "NFC"} if split == "qwen2" else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": _SPLITS[split]},
        "decoder": _byte_level(True),
        "model": {
            "type": "BPE",
            # Llama 3's takes a word that is a token whole, whatever its merges would make of it.
            "ignore_merges": split == "llama-bpe",
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": pairs,
        },
    }


def _gemma(tokens: Sequence[str]) -> dict[str, Any]:
    """SentencePiece's pairs of pieces, merged in the order in which what they make is listed."""
    # Files have U+2581 for a space, as SentencePiece does, but not in tokens that a user defined.
    spelled = [token.replace(" ", "▁") for token in tokens]
    vocab = {token: i for i, token in enumerate(spelled)}
    merges = [
        [token[:cut], token[cut:]]
        for token in spelled
        for cut in range(len(token) - 1, 0, -1)
        if token[:cut] in vocab and token[cut:] in vocab
    ]
    return {
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": vocab,
            "merges": merges,
        },
    }


def _added(
    vocab: Mapping[str, int], tokens: Sequence[str], metadata: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Tokens that no text is split within: control tokens, and those that a user defined."""
    kinds = metadata.get("tokenizer.ggml.token_type")
    kinds = kinds if isinstance(kinds, list) else []
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": i, "content": token, **flags, "special": kind == _CONTROL}
        for i, (token, kind) in enumerate(zip(tokens, kinds, strict=False))
        if kind in (_CONTROL, _USER_DEFINED) and vocab.get(token) == i
    ]


def _config(path: Path, tokens: Sequence[str], metadata: Mapping[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for name, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown")):
        i = _token(path, metadata, key, len(tokens))
        if i is not None:
            config[f"{name}_token"] = tokens[i]
    add_bos = metadata.get("tokenizer.ggml.add_bos_token")
    if isinstance(add_bos, bool):
        config["add_bos_token"] = add_bos
    template = metadata.get("tokenizer.chat_template")
    if isinstance(template, str):
        config["chat_template"] = template
    return config


def _token(path: Path, metadata: Mapping[str, Any], key: str, count: int) -> int | None:
    """The id of a token that has a meaning, where the file names one."""
    i = metadata.get(f"tokenizer.ggml.{key}_token_id")
    if i is not None and (type(i) is not int or not 0 <= i < count):
        raise ValueError(
            f"{path}: tokenizer.ggml.{key}_token_id is {i!r}, but there are {count} tokens."
        )
    return i


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)
