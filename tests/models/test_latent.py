"""Latent attention in the engine: what is cached."""

import jax

from grm_jax.models import cache as kv
from grm_jax.models.model import Model
from tests.test_sharding import LATENT

MODEL = Model(LATENT.config)


def test_a_position_is_cached_as_one_latent_vector():
    """Not as 8 heads of 10 + 6 numbers; keys and values are the same array."""
    a = MODEL.spec.layers[0].attention
    chunk = kv.empty_prompts(MODEL.spec, 1, 2, 16, "float32").layers[0][0]
    assert [leaf.shape for leaf in jax.tree.leaves(chunk)] == [(1, 2, 1, 16, 12 + 4)]
    assert chunk.weighed is chunk.keys
    assert a.num_heads * (a.head_dim + a.value_dim) == 128
