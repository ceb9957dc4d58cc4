"""A few fixed inputs of each target of `python -m tests.faults.fuzz`."""

import pytest
from hypothesis import HealthCheck, given, settings

from tests.faults.fuzz import TARGETS
from tests.faults.fuzz_targets import target


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_fuzzed_ends_in_no_exception(name):
    inputs, check = target(name)
    share = settings(
        max_examples=8 if name == "yaml" else 30,
        derandomize=True,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    share(given(inputs)(check))()
