"""Values that no run can compute with are refused."""

import pytest

from grm_jax.train.compute import ComputeConfig


@pytest.mark.parametrize("name", ["microbatches", "logits_chunk"])
def test_counts_are_positive(name):
    with pytest.raises(ValueError, match=f"{name} is 0; give 1"):
        ComputeConfig(**{name: 0})
