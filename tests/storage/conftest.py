"""One bucket for all tests that need one."""

import pytest

from tests.buckets import bucket


@pytest.fixture(scope="session")
def runs():
    """The address of a bucket that exists while the tests run."""
    with bucket() as address:
        yield address
