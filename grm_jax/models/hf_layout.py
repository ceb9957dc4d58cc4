"""Where each of our weights lies in a Hugging Face checkpoint, whose matrices are [out, in]."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import jax

from grm_jax.models.config import FAMILIES, Config
from grm_jax.models.family import EACH, MATRIX, VECTOR, Dims, Family
from grm_jax.models.spec import Experts, Head, LayerSpec
from grm_jax.models.transformer import Params, axes

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
SCORE = "score.weight"
T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Where one weight lies in the files.

    `names`: its tensors. `stacked`: over how many of our first dimensions they are spread, the last
    one fastest: none, periods, or periods and experts. `dims`: for every dimension of a tensor the
    dimensions of ours (those not counted) that it merges.
    """

    names: tuple[str, ...]
    dims: Dims
    stacked: int = 0


def places(config: Config, head: Head) -> Params:
    """The `Place` of every weight, in the structure of `Model.init`."""
    spec, tensors = config.spec, FAMILIES[config.family].tensors
    names = axes(spec, head)

    def block(layer: LayerSpec, weights: Params, layers: range) -> Params:
        def place(ours: str) -> Place:
            theirs, dims = tensors[ours]
            each = [theirs]
            if EACH in theirs and isinstance(layer.mlp, Experts):
                each = [theirs.replace(EACH, str(expert)) for expert in range(layer.mlp.count)]
            names = tuple(f"model.layers.{i}.{name}" for i in layers for name in each)
            return Place(names, dims, 2 if EACH in theirs else 1)

        return {ours: place(ours) for ours in weights}

    tree: Params = {
        "embed": Place((EMBEDDING,), MATRIX),
        "final_norm": Place(("model.norm.weight",), VECTOR),
    }
    first = 0
    for segment in spec.segments:
        period, end = len(segment.period), first + len(segment.period) * segment.repeats
        tree[segment.name] = {
            name: block(layer, names[segment.name][name], range(first + place, end, period))
            for place, (name, layer) in enumerate(segment.period)
        }
        first = end
    if "head" in names:
        tree["head"] = Place((HEAD,), MATRIX)
    if head == "scalar":
        tree["score"] = Place((SCORE,), MATRIX)
    return tree


def text_tensors(family: Family, tensors: Mapping[str, T]) -> dict[str, T]:
    """The tensors of the text, by the names that they have in a model of text alone."""

    def ours(name: str) -> str:
        for prefix in family.prefixes:
            if name.startswith(prefix):
                return "model." + name.removeprefix(prefix)
        head = "language_model." + HEAD
        return HEAD if family.prefixes and name == head else name

    return {
        ours(name): tensor for name, tensor in tensors.items() if not name.startswith(family.others)
    }


def with_shapes(where: Params, abstract: Params) -> Iterator[tuple[Place, tuple[int, ...]]]:
    """Every Place and the shape that its tensors have in a file."""
    for place, leaf in zip(jax.tree.leaves(where), jax.tree.leaves(abstract), strict=True):
        shape = leaf.shape[place.stacked :]
        yield place, tuple(math.prod(shape[d] for d in merged) for merged in place.dims)
