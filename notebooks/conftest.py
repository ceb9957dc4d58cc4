"""Notebooks are run on one device, as a reader's machine has it, and their programs are compiled
quickly rather than well."""

from collections.abc import Generator

import pytest

from tests.processes import QUICK


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    with pytest.MonkeyPatch.context() as patch:  # which the notebook's process inherits
        patch.setenv("XLA_FLAGS", QUICK)
        patch.setenv("JAX_PLATFORMS", "cpu")
        return (yield)
