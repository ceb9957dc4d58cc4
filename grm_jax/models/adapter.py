"""LoRA adapters (Hu et al., arXiv 2106.09685): which matrices of a model they change, and how.

Letters: L periods, R rank, I and O the two sizes of a matrix as its file has it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from grm_jax.models.adapted import Adapted
from grm_jax.models.hf_layout import Place, places
from grm_jax.models.model import Model
from grm_jax.models.spec import Experts
from grm_jax.models.transformer import Params

SCORE = "score"  # a new head is trained beside the matrices, and saved with them
# Where there are experts PEFT takes these names, wherever they stand, for those of the router and
# of the routed experts, which transformers keeps in one array.
_OF_EXPERTS = ("gate", "gate_proj", "up_proj", "down_proj")


@lru_cache
def matrices(model: Model) -> dict[str, dict[str, dict[str, Place]]]:
    """The matrices of the layers, by segment, layer and name: where each lies in a file. Of a model
    with experts those of attention alone."""
    where, shapes = places(model.config, model.head), model.abstract()
    left = _OF_EXPERTS if any(isinstance(x.mlp, Experts) for x in model.spec.layers) else ()

    def is_matrix(place: Any, leaf: Any) -> bool:
        merged = getattr(place, "dims", ())
        whole = len(merged) == 2 and sum(map(len, merged)) == leaf.ndim - 1
        return whole and module_of(place) not in left

    return {
        segment.name: {
            layer: {
                name: place
                for name, place in where[segment.name][layer].items()
                if is_matrix(place, shapes[segment.name][layer][name])
            }
            for layer, _ in segment.period
        }
        for segment in model.spec.segments
    }


def module_of(place: Place) -> str:
    """What PEFT calls a matrix: the last part of its module's name, such as q_proj."""
    return place.names[0].removesuffix(".weight").rpartition(".")[2]


@dataclass(frozen=True)
class Adapter:
    """The changes to a model's matrices, and the head if that is a new one.

    Its parameters are {segment: {layer: {name: {"a": [L, R, I], "b": [L, O, R]}}}}, and the head;
    L are the periods that are changed.

    Attributes:
        targets: names of modules, as PEFT has them; None: all projections of attention and of the
            feed-forward.
        layers: only so many of the last layers are changed, so that the backward pass need not go
            below them; None: all.

    Raises:
        ValueError: the model has no such module, or not so many layers.
    """

    model: Model
    rank: int
    alpha: float
    targets: tuple[str, ...] | None = None
    layers: int | None = None

    def __post_init__(self) -> None:
        self._periods()
        known = sorted({module_of(place) for *_, place in self._all()})
        unknown = [name for name in self.targets or () if name not in known]
        if unknown or (self.targets is not None and not self.targets):
            raise ValueError(
                f"adapter.targets names {', '.join(unknown) or 'nothing'}, but the matrices of "
                f"this model are {', '.join(known)}."
            )

    @property
    def modules(self) -> tuple[str, ...]:
        """The names of the modules that are changed, sorted."""
        return tuple(sorted({module_of(place) for *_, place in self.places()}))

    def places(self) -> list[tuple[str, str, str, Place]]:
        """(segment, layer, name, Place) of every matrix that is changed; a Place names the tensors
        of the periods that are."""
        counts = self._periods()
        return [
            (segment, layer, name, replace(place, names=place.names[-counts[segment] :]))
            for segment, layer, name, place in self._all()
            if counts[segment] and self._wanted(module_of(place))
        ]

    def changed_layers(self) -> tuple[int, ...]:
        """The numbers of the layers that are changed."""
        total = sum(len(s.period) * s.repeats for s in self.model.spec.segments)
        return tuple(range(total - (self.layers or total), total))

    def _periods(self) -> dict[str, int]:
        """How many periods of each segment are changed, the last ones.

        Raises:
            ValueError: `layers` is none of the numbers that can be.
        """
        counts, able, left = {}, [], self.layers
        for segment in reversed(self.model.spec.segments):
            size = len(segment.period)
            below = able[-1] if able else 0
            able += [below + size * (period + 1) for period in range(segment.repeats)]
            periods = segment.repeats if left is None else min(left // size, segment.repeats)
            counts[segment.name] = periods
            left = None if left is None else left - size * periods
        if self.layers is not None and self.layers not in able:
            raise ValueError(
                f"adapter.layers is {self.layers}, but the last layers of this model that can be "
                f"changed alone are so many: {', '.join(map(str, able))}."
            )
        return counts

    def _all(self) -> list[tuple[str, str, str, Place]]:
        return [
            (segment, layer, name, place)
            for segment, layers in matrices(self.model).items()
            for layer, names in layers.items()
            for name, place in names.items()
        ]

    def _wanted(self, module: str) -> bool:
        # Not a router of experts, say, whose choices a small change would turn over.
        return "_proj" in module if self.targets is None else module in self.targets

    def axes(self) -> Params:
        """The names of every dimension, in the structure of the parameters."""
        names, tree = self.model.axes(), {}
        for segment, layer, name, place in self.places():
            stack, *own = names[segment][layer][name]
            out, inside = (own[merged[0]] for merged in place.dims)
            _put(
                tree, (segment, layer, name), {"a": (stack, None, inside), "b": (stack, out, None)}
            )
        return tree if self.model.head == "lm" else {**tree, SCORE: names[SCORE]}

    def abstract(self) -> Params:
        """The shapes, all in float32, without a single number."""
        whole, tree = self.model.abstract(), {}
        array = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)  # noqa: E731
        for segment, layer, name, place in self.places():
            _, *own = whole[segment][layer][name].shape
            periods = len(place.names)
            out, inside = (math.prod(own[dim] for dim in merged) for merged in place.dims)
            sizes = {"a": array(periods, self.rank, inside), "b": array(periods, out, self.rank)}
            _put(tree, (segment, layer, name), sizes)
        return tree if self.model.head == "lm" else {**tree, SCORE: array(*whole[SCORE].shape)}

    def init(self, key: Array) -> Params:
        """PEFT's: A uniform within 1 / sqrt(I), B zero, so that nothing is changed at first. The
        head is zero, too, for it comes with the model."""
        paths, structure = jax.tree_util.tree_flatten_with_path(self.abstract())
        keys = jax.random.split(key, len(paths))

        def one(path: Any, leaf: Any, key: Array) -> Array:
            if path[-1].key != "a":
                return jnp.zeros(leaf.shape, leaf.dtype)
            bound = leaf.shape[-1] ** -0.5
            return jax.random.uniform(key, leaf.shape, leaf.dtype, -bound, bound)

        leaves = [one(path, leaf, key) for (path, leaf), key in zip(paths, keys, strict=True)]
        return jax.tree.unflatten(structure, leaves)

    def join(self, frozen: Params, trained: Params) -> Params:
        """The model's parameters, of which those that are changed are `Adapted`; no copies."""
        params = {
            name: {layer: dict(weights) for layer, weights in part.items()}
            if isinstance(part, dict)
            else part
            for name, part in frozen.items()
        }
        for segment, layer, name, place in self.places():
            change = trained[segment][layer][name]
            params[segment][layer][name] = Adapted(
                params[segment][layer][name],
                change["a"],
                change["b"],
                self.alpha / self.rank,
                place.dims,
            )
        return params if self.model.head == "lm" else {**params, SCORE: trained[SCORE]}


def _put(tree: dict[str, Any], path: tuple[str, str, str], value: Any) -> None:
    segment, layer, name = path
    tree.setdefault(segment, {}).setdefault(layer, {})[name] = value
