"""Values that no run can compute with are refused."""

import pytest

from grm_jax.cli.options import read_options
from grm_jax.train.compute import ComputeConfig


@pytest.mark.parametrize("name", ["microbatches", "logits_chunk"])
def test_counts_are_positive(name):
    with pytest.raises(ValueError, match=f"{name} is 0; give 1"):
        ComputeConfig(**{name: 0})


@pytest.mark.parametrize("old", ["true", "false"])
def test_remat_was_a_switch_and_is_a_policy(old):
    assert read_options(ComputeConfig, ["--remat", "none"], "command").remat == "none"
    with pytest.raises(ValueError, match=r"remat.*none.*attention.*dots.*full"):
        read_options(ComputeConfig, ["--remat", old], "command")
