"""Small model folders for the tests of Hugging Face's layout: made, compared and damaged."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file, save_file

from grm_jax.models.config import Gemma2Config
from grm_jax.models.model import Model

SMALL = Gemma2Config(97, 4, 32, 48, 4, 2, 16, 24.0, sliding_window=8, max_position=64)


def random_params(model: Model, seed: int = 0):
    """Weights that are all different, norms included, so that no two can be mistaken."""
    leaves, tree = jax.tree.flatten(model.abstract())
    rng = np.random.default_rng(seed)
    return tree.unflatten(
        [jnp.asarray(rng.normal(0, 0.3, leaf.shape), leaf.dtype) for leaf in leaves]
    )


def assert_same_bits(ours, theirs):
    def compare(path, a, b):
        assert a.dtype == b.dtype, path
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), str(path))

    jax.tree_util.tree_map_with_path(compare, ours, theirs)


def edit_config(folder: Path, **changes) -> Path:
    """Changes config.json; a value of `...` removes the key."""
    path = folder / "config.json"
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not ...}))
    return folder


def rewrite(folder: Path, change) -> Path:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})
    return folder
