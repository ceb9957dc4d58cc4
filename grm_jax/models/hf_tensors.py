"""safetensors files: what a folder holds, slices read in place, and files written as a stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils
from safetensors import safe_open

from grm_jax.text.files import read_object, refuse_pointer

INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Stored:
    """One tensor of a file, by its header; `dtype` in safetensors' spelling ("F32", "BF16")."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: str

    def read(self, index: tuple[slice, ...]) -> np.ndarray:
        """The slices `index` of the tensor, copied out of the file.

        The file is opened anew each time: a mapping kept open would count every page that was
        read as this process's memory, and the folder would be there twice.
        """
        with safe_open(self.path, framework="np") as file:
            return file.get_slice(self.name)[index]


def survey(folder: Path) -> dict[str, Stored]:
    """Every tensor of a folder's safetensors files by name, from the headers alone.

    Raises:
        FileNotFoundError: no weights, or a file that the index names is not there.
        ValueError: a file that is not whole (an interrupted download, say).
    """
    names, said_by = ["model.safetensors"], f"and has no {INDEX}"
    if (folder / INDEX).exists():
        names, said_by = _indexed(folder / INDEX), f"which {INDEX} names"
    absent = [name for name in names if not (folder / name).is_file()]
    if absent:
        raise FileNotFoundError(
            f"{folder} lacks {', '.join(absent)}, {said_by}. Was the download interrupted? "
            "Only weights in safetensors files are read."
        )
    return {tensor.name: tensor for name in names for tensor in headers(folder / name)}


def _indexed(path: Path) -> list[str]:
    """The names of the files that an index spreads the tensors over."""
    weight_map = read_object(path).get("weight_map")
    if not isinstance(weight_map, dict) or not all(
        isinstance(name, str) and name == Path(name).name for name in weight_map.values()
    ):
        raise ValueError(
            f"{path} has no weight_map that gives each tensor the name of a file beside it: get "
            "the index anew from where the weights come from."
        )
    return sorted(set(weight_map.values()))


def headers(path: Path) -> list[Stored]:
    """Every tensor of a safetensors file.

    Raises:
        ValueError: it is not whole.
    """
    refuse_pointer(path)
    try:
        with safe_open(path, framework="np") as file:
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return [
                Stored(path, name, tuple(part.get_shape()), part.get_dtype())
                for name, part in parts.items()
            ]
    except Exception as error:  # safetensors' own error is a plain Exception
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}). Was the download interrupted? Get "
            "the file anew."
        ) from error


def not_finite(array: np.ndarray) -> bool:
    """Whether a number is NaN or infinite: these have the largest bits of either sign.

    Two passes and no copy: half the time of a copy, where bfloat16's `isfinite` takes four times.
    """
    bits = array.dtype.itemsize * 8
    top = int(np.array(np.inf, array.dtype).view(f"u{array.dtype.itemsize}"))
    unsigned, signed = (
        array.view(f"u{array.dtype.itemsize}"),
        array.view(f"i{array.dtype.itemsize}"),
    )
    return array.size > 0 and bool(signed.max() >= top or unsigned.max() >= top + (1 << (bits - 1)))


def fetched(array: jax.Array) -> np.ndarray:
    """The whole array on the host; where no process has all of it, all must ask."""
    if array.is_fully_addressable:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


@dataclass(frozen=True)
class Outgoing:
    """A tensor to be written: its header now, its numbers when `fetch` is called."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    fetch: Callable[[], np.ndarray]


def split_into_files(tensors: Iterable[Outgoing], max_bytes: int | float) -> list[list[Outgoing]]:
    """Consecutive tensors in groups of at most `max_bytes` (one larger tensor has its own)."""
    groups: list[list[Outgoing]] = [[]]
    room = max_bytes
    for tensor in tensors:
        if groups[-1] and tensor.nbytes > room:
            groups.append([])
            room = max_bytes
        groups[-1].append(tensor)
        room -= tensor.nbytes
    return groups


def write_files(folder: Path, groups: Sequence[Sequence[Outgoing]]) -> None:
    """Writes model.safetensors, or numbered files and their index."""
    if len(groups) == 1:
        return _write_file(folder / "model.safetensors", groups[0])
    weight_map = {}
    for number, group in enumerate(groups, start=1):
        name = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        weight_map |= {tensor.name: name for tensor in group}
        _write_file(folder / name, group)
    total = sum(tensor.nbytes for group in groups for tensor in group)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _write_file(path: Path, tensors: Sequence[Outgoing]) -> None:
    """One safetensors file: length of the header, header, numbers.

    The library's own writer wants a whole file's tensors in memory at once, which for a small
    model is a second copy of it; the format is three lines, so it is written here as a stream.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        end = offset + tensor.nbytes
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # numbers start at a multiple of 8
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            array = np.ascontiguousarray(tensor.fetch())
            file.write(array.reshape(-1).view(np.uint8).data)
