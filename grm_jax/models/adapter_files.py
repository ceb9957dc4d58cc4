"""Adapters in PEFT's layout: adapter_config.json and adapter_model.safetensors, both ways."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from safetensors.numpy import save

from grm_jax.models.adapted import Adapted
from grm_jax.models.adapter import SCORE, Adapter, matrices
from grm_jax.models.config import FAMILIES
from grm_jax.models.hf_folder import ADAPTER, ADAPTER_WEIGHTS, adapter_head
from grm_jax.models.hf_layout import SCORE as SCORE_TENSOR
from grm_jax.models.hf_layout import Place, text_tensors
from grm_jax.models.hf_tensors import Stored, fetched, headers, not_finite
from grm_jax.models.hf_words import write_json
from grm_jax.models.model import Model
from grm_jax.models.transformer import Params
from grm_jax.sharding import Rules, spec_for
from grm_jax.text.files import read_object

PREFIX = "base_model.model."
A, B = ".lora_A.weight", ".lora_B.weight"
# Keys that may ask for what is not computed here, and the values that are fine.
PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "fan_in_fan_out": (False, None),
    "use_dora": (False, None),
    "lora_bias": (False, None),
    "use_qalora": (False, None),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "layer_replication": (None,),
    "alora_invocation_tokens": (None,),
    "target_parameters": (None, []),
    "trainable_token_indices": (None, []),
    # Others change the model's own weights before training.
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal"),
}
MOST_FAULTS = 10


@dataclass(frozen=True)
class AdapterSettings:
    """What adapter_config.json says: `scale` is alpha / rank."""

    rank: int
    alpha: float
    scale: float


def read_settings(folder: Path) -> AdapterSettings:
    """Reads `folder`/adapter_config.json.

    Raises:
        ValueError: it asks for what is not computed here; says which key.
    """
    path = folder / ADAPTER
    raw = read_object(path)
    for key, allowed in PLAIN.items():
        default = None if key == "peft_type" else allowed[0]
        if raw.get(key, default) not in allowed:
            raise ValueError(
                f"{path}: {key} is {raw.get(key)!r}, but only {allowed[0]!r} is computed here. "
                "Merge the adapter into its model with peft (merge_and_unload, save_pretrained), "
                "and give that folder."
            )
    rank, alpha = (_number(raw, key, path) for key in ("r", "lora_alpha"))
    if rank != int(rank):
        raise ValueError(f"{path}: r must be a whole number, but is {rank!r}.")
    rank, alpha = int(rank), float(alpha)
    return AdapterSettings(rank, alpha, alpha / (rank**0.5 if raw.get("use_rslora") else rank))


def _number(raw: Mapping[str, Any], key: str, path: Path) -> int | float:
    value = raw.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise ValueError(f"{path}: {key} must be a number above 0, but is {value!r}.")
    return value


def merge_folder(
    folder: Path, model: Model, params: Params, mesh: Mesh | None, rules: Rules
) -> tuple[Model, Params]:
    """The model with the adapter in `folder` merged into its weights, whose memory is reused.

    Raises:
        FileNotFoundError: the adapter's weights are missing.
        ValueError: it is none for this model (all that does not fit is named), or holds numbers
            that are not finite.
    """
    scale = read_settings(folder).scale
    tensors = _read(folder, model)
    merged = {name: part for name, part in params.items() if name != SCORE}
    for segment, layers in matrices(model).items():
        merged[segment] = {
            layer: {
                name: _merge(weight, layers[layer].get(name), tensors, scale)
                for name, weight in weights.items()
            }
            for layer, weights in params[segment].items()
        }
    if adapter_head(folder) != "scalar":
        return model, {**merged, **({SCORE: params[SCORE]} if SCORE in params else {})}
    model = model.as_head("scalar")
    merged.pop("head", None)
    return model, {**merged, SCORE: _score(folder, model, tensors, params, mesh, rules)}


def read_adapter(folder: Path, adapter: Adapter) -> Params:
    """The parameters of an adapter, to be trained on; a head's are zero.

    Raises:
        ValueError: it is another adapter than this, or does not fit the model.
    """
    settings, tensors = read_settings(folder), _read(folder, adapter.model.as_head("lm"))
    modules = {name.rpartition(".lora_")[0].rpartition(".")[2] for name in tensors}
    names = {
        one + part for *_, place in adapter.places() for one in _modules(place) for part in (A, B)
    }
    same = (settings.rank, settings.scale) == (adapter.rank, adapter.alpha / adapter.rank)
    if not same or set(tensors) != names:
        raise ValueError(
            f"{folder} is an adapter of rank {settings.rank} and alpha {settings.alpha:g} for "
            f"{', '.join(sorted(modules))}, in {len(tensors)} tensors; but this run trains one of "
            f"rank {adapter.rank} and alpha {adapter.alpha:g} for {', '.join(adapter.modules)}, in "
            f"{len(names)} of {len(adapter.changed_layers())} layers. Give the same adapter.rank, "
            "adapter.alpha, adapter.targets and adapter.layers; or merge it first (grm export "
            "--merge-adapter true), and start from that."
        )
    trained = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), adapter.abstract())
    for segment, layer, name, place in adapter.places():
        trained[segment][layer][name] = dict(zip("ab", _stacked(place, tensors), strict=True))
    return trained


def write_adapter(folder: Path | None, adapter: Adapter, trained: Params, base: str) -> None:
    """Writes the two files; `base` is the model's folder or hub id. Where several processes share
    the arrays all must call, and those without a folder do not write."""
    tensors: dict[str, np.ndarray] = {}
    for segment, layer, name, place in adapter.places():
        for suffix, key in ((A, "a"), (B, "b")):
            stack = fetched(trained[segment][layer][name][key])
            for module, array in zip(_modules(place), stack, strict=True):
                tensors[f"{PREFIX}{module}{suffix}"] = np.ascontiguousarray(array)
    scalar = adapter.model.head == "scalar"
    if scalar:
        tensors[PREFIX + SCORE_TENSOR] = fetched(trained[SCORE])
    if folder is None:
        return
    whole = adapter.alpha == int(adapter.alpha)
    settings = {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS" if scalar else "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": adapter.rank,
        "lora_alpha": int(adapter.alpha) if whole else adapter.alpha,
        "lora_dropout": 0.0,
        "target_modules": list(adapter.modules),
        **({} if adapter.layers is None else {"layers_to_transform": [*adapter.changed_layers()]}),
        "modules_to_save": [SCORE] if scalar else None,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }
    # Not save_file, whose files nobody else may read, whatever the umask says.
    (folder / ADAPTER_WEIGHTS).write_bytes(save(tensors, {"format": "pt"}))
    write_json(folder / ADAPTER, settings)


def _modules(place: Place) -> list[str]:
    return [name.removesuffix(".weight") for name in place.names]


def _read(folder: Path, model: Model) -> dict[str, np.ndarray]:
    """All tensors by their names in a model of text alone, checked against the model.

    Raises:
        FileNotFoundError, ValueError: see `merge_folder`.
    """
    path, rank = folder / ADAPTER_WEIGHTS, read_settings(folder).rank
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} lacks {path.name}. Was the download interrupted? Of adapters only "
            "safetensors files are read."
        )
    stored = {tensor.name.removeprefix(PREFIX): tensor for tensor in headers(path)}
    stored = text_tensors(FAMILIES[model.config.family], stored)
    _check(path, stored, _shapes(model, rank, scalar=adapter_head(folder) == "scalar"))
    tensors = {name: tensor.read((slice(None), slice(None))) for name, tensor in stored.items()}
    for name, array in tensors.items():
        if not_finite(array):
            raise ValueError(
                f"{path}: {name} holds numbers that are not finite (NaN or inf): the training that "
                "made it broke, or the file is damaged. Get it anew."
            )
    return {name: array.astype(np.float32) for name, array in tensors.items()}


def _shapes(model: Model, rank: int, *, scalar: bool) -> dict[str, tuple[int, int]]:
    """The tensors that an adapter may hold."""
    whole, shapes = model.abstract(), {}
    for segment, layers in matrices(model).items():
        for layer, names in layers.items():
            for name, place in names.items():
                own = whole[segment][layer][name].shape[1:]
                out, inside = (math.prod(own[dim] for dim in merged) for merged in place.dims)
                for module in _modules(place):
                    shapes |= {module + A: (rank, inside), module + B: (out, rank)}
    return shapes | ({SCORE_TENSOR: (1, model.spec.embed_dim)} if scalar else {})


def _check(path: Path, stored: Mapping[str, Stored], shapes: Mapping[str, tuple[int, int]]) -> None:
    faults = [
        f"{name} is not of this model"
        if name not in shapes
        else f"{name} is {list(tensor.shape)}, but the model and adapter_config.json say "
        f"{list(shapes[name])}"
        for name, tensor in stored.items()
        if shapes.get(name) != tensor.shape
    ]
    for name in stored:
        other = name[: -len(A)] + (B if name.endswith(A) else A)
        if name != SCORE_TENSOR and name in shapes and other not in stored:
            faults.append(f"{other} is missing")
    if SCORE_TENSOR in shapes and SCORE_TENSOR not in stored:
        faults.append(f"{SCORE_TENSOR} is missing")
    if not stored:
        faults.append("it holds no tensor")
    if faults:
        if len(faults) > MOST_FAULTS:
            faults[MOST_FAULTS:] = [f"and {len(faults) - MOST_FAULTS} more"]
        raise ValueError(f"{path}: the adapter does not fit the model.\n  " + "\n  ".join(faults))


def _stacked(place: Place, tensors: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """A and B of all periods; zero where a period is left as it is."""
    pairs = [(tensors.get(name + A), tensors.get(name + B)) for name in _modules(place)]
    a, b = next(((a, b) for a, b in pairs if a is not None and b is not None))
    return (
        np.stack([np.zeros_like(a) if one is None else one for one, _ in pairs]),
        np.stack([np.zeros_like(b) if one is None else one for _, one in pairs]),
    )


def _merge(
    weight: jax.Array, place: Place | None, tensors: Mapping[str, np.ndarray], scale: float
) -> jax.Array:
    if place is None or not any(name + A in tensors for name in _modules(place)):
        return weight
    add = _adder(weight.sharding, scale, place.dims)
    return jax.block_until_ready(add(weight, *_stacked(place, tensors)))


@lru_cache
def _adder(sharding: Any, scale: float, dims: Any) -> Callable[..., jax.Array]:
    @partial(jax.jit, donate_argnums=0, out_shardings=sharding)
    def add(weight: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
        return jax.vmap(Adapted.value)(Adapted(weight, a, b, scale, dims)).astype(weight.dtype)

    return add


def _score(
    folder: Path,
    model: Model,
    tensors: Mapping[str, np.ndarray],
    params: Params,
    mesh: Mesh | None,
    rules: Rules,
) -> jax.Array:
    """The adapter's own head, beside the weights of its model."""
    head = tensors[SCORE_TENSOR].astype(params["embed"].dtype)
    where = params["final_norm"].sharding
    if mesh is not None:
        where = NamedSharding(mesh, spec_for(model.axes()[SCORE], rules))
    return jax.make_array_from_callback(head.shape, where, lambda index: head[index])
