"""Hugging Face folders in and out: weights, config.json, and what a judge needs beside them; GGUF
files in.

Weights come in leaf by leaf, each device's slice straight from the file, and go out tensor by
tensor, so the host never holds much more than one copy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, SingleDeviceSharding

from grm_jax.models.adapter_files import merge_folder
from grm_jax.models.config import FAMILIES
from grm_jax.models.family import Family
from grm_jax.models.gguf import Packed, survey_gguf
from grm_jax.models.hf_config import config_from_hf, config_to_hf
from grm_jax.models.hf_folder import base_folder, find_folder, is_adapter
from grm_jax.models.hf_layout import EMBEDDING, HEAD, Place, places, text_tensors, with_shapes
from grm_jax.models.hf_tensors import (
    Outgoing,
    Stored,
    fetched,
    not_finite,
    split_into_files,
    survey,
    write_files,
)
from grm_jax.models.hf_words import new_folder, write_json, write_words
from grm_jax.models.model import Model
from grm_jax.models.transformer import Params
from grm_jax.sharding import DECODE_RULES, Rules, check_divisible, shardings_of
from grm_jax.text.gguf_file import find_gguf
from grm_jax.text.tokenizer import Tokenizer

# safetensors' dtypes -> what we keep. float16 is widened, since bfloat16 would round it.
STORED_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float32"}
WRITTEN_DTYPES = {"float32": "F32", "bfloat16": "BF16"}

Tensors = Mapping[str, Stored | Packed]

MOST_FAULTS = 10  # of tensors that do not fit: one sentence of config.json may make hundreds
ROWS_BYTES = 1 << 26  # of a table that is compared, at a time


def load_folder(
    source: str | Path,
    mesh: Mesh | None = None,
    rules: Rules = DECODE_RULES,
    dtype: str | None = None,
    param_dtype: str | None = None,
) -> tuple[Model, Params]:
    """Reads a folder of one of our families, a GGUF file or a hub id into a Model and its weights.

    Where it is an adapter, its model is read, and the adapter merged into that one's weights.

    With `mesh` each weight is laid out by `rules`, otherwise all are on the default device.
    `param_dtype` is what they are kept in (None: as stored, and float32 where a GGUF file has them
    in blocks of few bits), `dtype` what activations are computed in (None: `param_dtype`).

    Raises:
        FileNotFoundError: no such folder, no config.json or weights, or the hub did not give it.
        ValueError: not a model that we compute, tensors that are missing, unknown or of another
            shape (all are named), numbers that are not finite, or a mesh that does not divide the
            weights.
    """
    folder = find_folder(source)
    if is_adapter(folder):
        whole = load_folder(base_folder(folder), mesh, rules, dtype, param_dtype)
        return merge_folder(folder, *whole, mesh, rules)
    config, head = config_from_hf(folder)
    tensors = _survey(folder, FAMILIES[config.family])
    param_dtype = param_dtype or _stored_dtype(tensors)
    model = Model(config, head, dtype or param_dtype, param_dtype)
    abstract, where = model.abstract(), places(config, head)
    _check_tensors(folder, tensors, where, abstract)
    if head == "lm" and config.spec.tied:
        _check_tied(folder, tensors)
    if mesh is None:
        here = SingleDeviceSharding(jax.local_devices()[0])
        shardings = jax.tree.map(lambda _: here, abstract)
    else:
        check_divisible(abstract, model.axes(), mesh, rules)
        shardings = shardings_of(model.axes(), mesh, rules)

    def load(place: Place, leaf: jax.ShapeDtypeStruct, sharding: Any) -> jax.Array:
        parts: dict[Any, np.ndarray] = {}  # devices that hold the same part share one reading

        def read(index: Any) -> np.ndarray:
            key = tuple((part.start, part.stop) for part in index)
            if key not in parts:
                parts[key] = _read(tensors, place, leaf, index)
            return parts[key]

        return jax.make_array_from_callback(leaf.shape, sharding, read, leaf.dtype)

    return model, jax.tree.map(load, where, abstract, shardings)


def stored_dtype(folder: Path) -> str:
    """What the weights of a folder are kept in where nothing else is asked for."""
    config, _ = config_from_hf(folder)
    return _stored_dtype(_survey(folder, FAMILIES[config.family]))


def _stored_dtype(tensors: Tensors) -> str:
    stored = tensors[EMBEDDING].dtype if EMBEDDING in tensors else ""
    return STORED_DTYPES.get(stored, "float32")


def _survey(folder: Path, family: Family) -> Tensors:
    file = find_gguf(folder)
    return text_tensors(family, survey(folder)) if file is None else survey_gguf(file)


def _check_tensors(folder: Path, tensors: Tensors, where: Params, abstract: Params) -> None:
    """Compares the files' tensors with those that the config needs; names all that differ."""
    needed = {name: shape for place, shape in with_shapes(where, abstract) for name in place.names}
    config = "config.json" if find_gguf(folder) is None else "the metadata"
    faults = [f"{name} is missing" for name in needed if name not in tensors]
    for name, tensor in tensors.items():
        found, shape = tensor.shape, needed.get(name)
        if name == EMBEDDING and shape and found[1:] == shape[1:] and found[0] > shape[0]:
            found = shape  # some checkpoints pad the table to 256,128 rows, which nothing reads
        if shape is None and name != HEAD:  # tied files may repeat the table as head
            faults.append(f"{name} is in the files, but not in this model")
        elif shape is not None and found != shape:
            faults.append(f"{name} is {list(found)}, but {config} says {list(shape)}")
        elif tensor.dtype not in STORED_DTYPES:
            faults.append(f"{name} is {tensor.dtype}, but only {', '.join(STORED_DTYPES)} are read")
    if faults:
        if len(faults) > MOST_FAULTS:
            faults[MOST_FAULTS:] = [f"and {len(faults) - MOST_FAULTS} more"]
        raise ValueError(f"{folder}: the weights do not fit.\n  " + "\n  ".join(faults))


def _check_tied(folder: Path, tensors: Tensors) -> None:
    """Refuses an output layer of its own, which other readers would use (transformers 5 does)."""
    head, table = tensors.get(HEAD), tensors[EMBEDDING]
    if head is None:
        return
    step = max(ROWS_BYTES // (4 * table.shape[1]), 1)
    for first in range(0, table.shape[0], step):
        rows = (slice(first, min(first + step, table.shape[0])), slice(None))
        if head.shape != table.shape or not np.array_equal(head.read(rows), table.read(rows)):
            raise ValueError(
                f"{folder}: {HEAD} is not the same as {EMBEDDING}: an output layer of its own is "
                "not computed here, and what comes out without it is another model. If the table "
                f"is the right one, as the config says, leave {HEAD} out of the files."
            )


def _read(
    tensors: Tensors,
    place: Place,
    leaf: jax.ShapeDtypeStruct,
    index: Any,
) -> np.ndarray:
    """One device's part of the weight that looks like `leaf`; `index` is a tuple of slices."""
    stack, index = index[: place.stacked], index[place.stacked :]
    spread, shape = leaf.shape[: place.stacked], leaf.shape[place.stacked :]
    bounds = [part.indices(size)[:2] for part, size in zip(index, shape, strict=True)]
    sizes = [stop - start for start, stop in bounds]
    inside = []
    for first, *rest in place.dims:
        # Merged dimensions after the first are the head size, which no rule splits.
        step = math.prod(shape[d] for d in rest)
        inside.append(slice(bounds[first][0] * step, bounds[first][1] * step))
    order = [d for merged in place.dims for d in merged]
    numbers = np.arange(len(place.names)).reshape(spread)[stack]
    out = _empty((numbers.size, *sizes), leaf.dtype)
    for slot, number in enumerate(numbers.flat):
        name = place.names[number]
        raw = tensors[name].read(tuple(inside)).reshape([sizes[d] for d in order])
        out[slot] = raw.transpose(np.argsort(order))
        if not_finite(out[slot]):
            raise ValueError(
                f"{tensors[name].path}: {name} holds numbers that are not finite (NaN or inf): "
                "the training that made it broke, or the file is damaged. Give an earlier "
                "checkpoint, or get the file anew."
            )
    return out.reshape(*numbers.shape, *sizes)


def _empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Memory to be filled. It starts at a multiple of 64 bytes, for that is what a CPU's devices
    take as it is, instead of a copy for each."""
    size = math.prod(shape) * dtype.itemsize
    block = np.empty(size + 64, np.uint8)
    start = -block.ctypes.data % 64
    return block[start : start + size].view(dtype).reshape(shape)


def save_folder(
    model: Model,
    params: Params,
    folder: str | Path,
    *,
    tokenizer: Tokenizer | str | Path | None = None,
    extra: Mapping[str, Any] | None = None,
    templates: str | Path | None = None,
    max_shard_bytes: int | float = 5e9,
) -> None:
    """Writes a folder that transformers, vLLM and `load_folder` read, tensor by tensor.

    The folder appears whole or not at all; a model that is already there is replaced. `tokenizer`
    is ours or a folder whose files are copied (its hash joins grm.json), `extra` what else
    grm.json says, `templates` a folder of prompt templates to copy. In a job of several processes
    all of them must call; the first writes.

    Raises:
        FileExistsError: `folder` is a file, or holds files and no model.
        FileNotFoundError: the folder of the tokenizer or of the templates is not there.
    """
    with new_folder(folder) as part:
        files = split_into_files(_outgoing(model, params), max_shard_bytes)
        if part is None:
            for tensor in itertools.chain(*files):
                tensor.fetch()  # a collective, in which the processes that do not write take part
            return
        ids = write_words(part, tokenizer, extra, templates)
        write_json(
            part / "config.json", config_to_hf(model.config, model.head, model.param_dtype, **ids)
        )
        write_files(part, files)


def _outgoing(model: Model, params: Params) -> list[Outgoing]:
    """The tensors of `params` in the order of the layers, each to be fetched when it is written."""
    where, abstract = places(model.config, model.head), model.abstract()
    leaves = jax.tree.leaves(params)
    tensors = []
    for (place, shape), leaf in zip(with_shapes(where, abstract), leaves, strict=True):
        dtype, nbytes = WRITTEN_DTYPES[leaf.dtype.name], math.prod(shape) * leaf.dtype.itemsize
        for number, name in enumerate(place.names):
            fetch = partial(_fetch, leaf, place, shape, number)
            tensors.append(Outgoing(name, shape, dtype, nbytes, fetch))
    return sorted(tensors, key=lambda tensor: _natural(tensor.name))


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts layer 10 after layer 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def _fetch(leaf: jax.Array, place: Place, shape: tuple[int, ...], number: int) -> np.ndarray:
    """One tensor of a weight, on the host and laid out as in a file."""
    one, spread = leaf, leaf.shape[: place.stacked]
    if spread:
        inner = leaf.shape[place.stacked :]
        first = (*np.unravel_index(number, spread), *(0 for _ in inner))
        one = jax.lax.dynamic_slice(leaf, first, (*(1 for _ in spread), *inner)).reshape(inner)
    return fetched(one).transpose([d for merged in place.dims for d in merged]).reshape(shape)
