"""Models of fewer layers, and the straight line from them to all."""

import pytest

from grm_jax.aot.counts import Counts
from grm_jax.aot.layers import repeated, shortened
from grm_jax.aot.measure import _Sizes
from grm_jax.models.config import PRESETS
from grm_jax.models.model import Model


def layers_of(config):
    return {segment.name: segment.repeats * len(segment.period) for segment in config.spec.segments}


DEEP = [name for name, config in PRESETS.items() if layers_of(config)[repeated(config).name] > 18]


def test_every_model_that_is_worth_it_can_be_shortened():
    assert {"2b", "27b", "gemma3-27b", "qwen3-8b", "llama-70b", "deepseek-v3"} <= set(DEEP)


@pytest.mark.parametrize("name", DEEP)
def test_layers_that_repeat_are_fewer_and_nothing_else_changes(name):
    """So the numbers of weights lie on a straight line, which ends at the model itself."""
    config = PRESETS[name]
    whole, (one, two) = layers_of(config), map(layers_of, shortened(config))
    longest = repeated(config).name
    assert 8 <= one[longest] < two[longest] < whole[longest]
    assert one | {longest: 0} == two | {longest: 0} == whole | {longest: 0}
    short = [Model(each).num_params() for each in shortened(config)]
    times = (whole[longest] - one[longest]) / (two[longest] - one[longest])
    assert short[0] + times * (short[1] - short[0]) == Model(config).num_params()


def test_a_model_of_few_layers_is_compiled_as_it_is():
    with pytest.raises(ValueError, match=r"repeats 4 layers.* compile it whole"):
        shortened(PRESETS["tiny"])


def test_counts_go_on_in_a_straight_line_and_not_below_zero():
    one = Counts(10.0, 5.0, {"all-reduce": 4.0}, {"all-reduce": 2, "all-gather": 1}, 0)
    two = Counts(14.0, 4.0, {"all-reduce": 6.0, "all-to-all": 1.0}, {"all-reduce": 4}, 1)
    assert one.towards(two, 3.0) == Counts(
        22.0, 2.0, {"all-reduce": 10.0, "all-to-all": 3.0}, {"all-reduce": 8, "all-gather": 0}, 1
    )
    assert one.towards(two, 9.0).hbm == 0.0


@pytest.mark.parametrize(("short", "more", "whole"), [(3.0, 5.0, 9.0), (4.0, 0.0, 4.0)])
def test_temporaries_are_not_taken_for_fewer_than_were_seen(short, more, whole):
    """Two layers may need memory where four find room elsewhere on the chip."""
    one, two = (_Sizes(1.0, each, 0.0, Counts(0.0, 0.0, {}, {}, 0)) for each in (short, more))
    assert one.towards(two, 3.0).temporaries == whole
