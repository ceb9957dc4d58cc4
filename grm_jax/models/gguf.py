"""Tensors of GGUF files, named and laid out as in a Hugging Face folder, made plain slice by slice.

llama.cpp keeps rows in blocks of few bits, which PyPI's `gguf` turns into float32. It names tensors
in its own way, turns the rows of Llama's queries and keys, and adds 1 to Gemma's norms, which is
undone here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from grm_jax.models.gguf_config import GEMMA, check_architecture, gguf_config, head_dim
from grm_jax.models.hf_layout import EMBEDDING, HEAD
from grm_jax.text.gguf_file import GGUFHeader, GGUFTensor, read_header

_ROPE_FACTORS = "rope_freqs.weight"
_CHUNK = 1 << 22  # numbers that are made plain at a time: `dequantize` takes some copies of them

_OUTSIDE = {
    "token_embd.weight": EMBEDDING,
    "output_norm.weight": "model.norm.weight",
    "output.weight": HEAD,
}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_GEMMA_LAYER = {
    **_LAYER,
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_BLOCK = re.compile(r"blk\.(\d+)\.(\w+)\.weight")


@dataclass(frozen=True)
class Blocks:
    """How a type keeps a row: `size` numbers in `nbytes` bytes. `dtype` is what is read of it, in
    safetensors' spelling: the type itself where it is plain, and F32 where it is packed."""

    kind: Any  # gguf's GGMLQuantizationType
    size: int
    nbytes: int
    dtype: str


@dataclass(frozen=True)
class Packed:
    """A tensor of a GGUF file; reads as `hf_tensors.Stored` does, in float32.

    Attributes:
        turned: the head size, if pairs of the rows of a head that are turned together lie side by
            side, where a Hugging Face folder has them half a head apart.
        shift: what was added to its numbers.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    start: int
    blocks: Blocks
    turned: int | None = None
    shift: float = 0.0

    @property
    def dtype(self) -> str:
        """As a safetensors file would say."""
        return self.blocks.dtype

    def read(self, index: tuple[slice, ...]) -> np.ndarray:
        """The slices `index` of the tensor, float32: whole blocks are read that hold them."""
        *outer, last = (part.indices(size) for part, size in zip(index, self.shape, strict=True))
        width, size, nbytes = self.shape[-1], self.blocks.size, self.blocks.nbytes
        held = np.memmap(
            self.path,
            np.uint8,
            "r",
            self.start,
            (int(np.prod(self.shape[:-1], dtype=np.int64)), width // size * nbytes),
        )
        rows = self._rows(slice(*outer[0]) if outer else slice(0, 1), len(held))
        first, end = last[0] // size, -(-last[1] // size)
        inside = slice(last[0] - first * size, last[1] - first * size)
        out = np.empty((len(rows), last[1] - last[0]), np.float32)
        step = max(_CHUNK // max((end - first) * size, 1), 1)
        for begin in range(0, len(rows), step):
            raw = held[rows[begin : begin + step], first * nbytes : end * nbytes]
            out[begin : begin + step] = _plain(raw, self.blocks.kind)[:, inside]
        if self.shift:
            out -= np.float32(self.shift)
        return out if outer else out[0]

    def _rows(self, part: slice, total: int) -> np.ndarray:
        """Where the rows `part` of a Hugging Face folder's tensor lie in the file."""
        rows = np.arange(total)[part]
        if self.turned is None:
            return rows
        head, place = np.divmod(rows, self.turned)
        half, pair = np.divmod(place, self.turned // 2)
        return head * self.turned + 2 * pair + half


def read_config(path: Path) -> dict[str, Any]:
    """What a config.json of a GGUF file's model would hold.

    Raises:
        ValueError: the file cannot be read, or its model is not computed here.
    """
    header = read_header(path)
    tensors = _tensors(header)
    if EMBEDDING not in tensors:
        raise ValueError(f"{path} is damaged: it has no token_embd.weight. Get it anew.")
    vocab_size = tensors[EMBEDDING].shape[0]
    return gguf_config(header, vocab_size, HEAD not in tensors, _rope_factors(tensors))


def survey_gguf(path: Path) -> dict[str, Packed]:
    """Every tensor of a file by the name that a Hugging Face folder has for it; what has no such
    name keeps its own.

    Raises:
        ValueError: gguf is missing, a tensor is of a type that it does not know or cannot make
            plain, or not all of it is in the file.
    """
    tensors = _tensors(read_header(path))
    tensors.pop(_ROPE_FACTORS, None)  # which `read_config` reads
    return tensors


def _tensors(header: GGUFHeader) -> dict[str, Packed]:
    architecture = check_architecture(header)
    size, kinds = header.path.stat().st_size, {}
    found = {}
    for tensor in header.tensors:
        if tensor.kind not in kinds:
            kinds[tensor.kind] = _blocks(header.path, tensor)
        packed = _packed(header, tensor, kinds[tensor.kind], architecture)
        width, blocks = tensor.shape[-1], packed.blocks
        if width % blocks.size or not all(tensor.shape):
            raise ValueError(
                f"{header.path} is damaged: {tensor.name} is {list(tensor.shape)}, but its type "
                f"keeps {blocks.size} numbers together. Get the file anew."
            )
        elements = 1
        for dimension in tensor.shape:
            elements *= dimension  # in Python's numbers, which do not overflow
        end = tensor.start + elements // blocks.size * blocks.nbytes
        if end > size:
            raise ValueError(
                f"{header.path} is not whole: {tensor.name} ends at byte {end}, but the file has "
                f"{size}. Was the download interrupted? Get it anew."
            )
        if packed.name in found:
            raise ValueError(f"{header.path} is damaged: {packed.name} is there twice.")
        found[packed.name] = packed
    return found


def _packed(header: GGUFHeader, tensor: GGUFTensor, blocks: Blocks, architecture: str) -> Packed:
    gemma = architecture in GEMMA
    name, turned = _OUTSIDE.get(tensor.name, tensor.name), None
    if match := _BLOCK.fullmatch(tensor.name):
        layer, part = match.groups()
        theirs = (_GEMMA_LAYER if gemma else _LAYER).get(part)
        name = f"model.layers.{layer}.{theirs}.weight" if theirs else tensor.name
        if architecture == "llama" and part in ("attn_q", "attn_k"):
            turned = head_dim(header)
    shift = 1.0 if gemma and name.endswith("norm.weight") else 0.0
    return Packed(header.path, name, tensor.shape, tensor.start, blocks, turned, shift)


def _blocks(path: Path, tensor: GGUFTensor) -> Blocks:
    """What `gguf` knows of a tensor's type."""
    try:
        import gguf
    except ImportError:
        raise ValueError(
            f"{path}: GGUF files take gguf, which is not installed: pip install 'grm-jax[gguf]'."
        ) from None
    try:
        kind = gguf.GGMLQuantizationType(tensor.kind)
        size, nbytes = gguf.GGML_QUANT_SIZES[kind]
        _plain(np.zeros((1, nbytes), np.uint8), kind)
    except (ValueError, KeyError, NotImplementedError):
        raise ValueError(
            f"{path}: {tensor.name} is of type {tensor.kind}, which the installed gguf cannot make "
            "plain. Give the model in another type (Q4_K_M, Q8_0, F16, ..), or get a newer gguf."
        ) from None
    return Blocks(kind, size, nbytes, kind.name if kind.name in ("F32", "F16", "BF16") else "F32")


def _plain(raw: np.ndarray, kind: Any) -> np.ndarray:
    """Rows of bytes as rows of float32."""
    import gguf

    return gguf.dequantize(np.ascontiguousarray(raw), kind)


def _rope_factors(tensors: Mapping[str, Packed]) -> np.ndarray | None:
    """What the frequencies of each pair of dimensions are divided by, where a file has a tensor of
    it: Llama 3.1's scaling is kept so."""
    factors = tensors.get(_ROPE_FACTORS)
    if factors is None or len(factors.shape) != 1:
        return None
    return factors.read((slice(None),))
