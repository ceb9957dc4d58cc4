"""An environment for each peer, made once: what one needs, another cannot have."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# None: this project's own. The files hold every package and are installed as they are: gemma's do
# not resolve, and a resolver would take other versions next month. Only torch brings packages
# that differ between machines.
REQUIREMENTS = {"ours": None, "hf": "hf.txt", "tunix": "tunix.txt", "gemma": "gemma.txt",
                "vllm": "vllm.txt", "reward-trl": "reward_trl.txt",
                "reward-tunix": "reward_tunix.txt", "reward-verl": "reward_verl.txt"}  # fmt: skip
RESOLVED = ("hf", "vllm", "reward-trl", "reward-verl")
# Installed without what they need, which are packages for GPUs: one module of each is used.
ALONE = {"reward-verl": ("areal==1.0.4", "openrlhf==0.11.2")}
JAX_ON_GPU = "jax[cuda13]==0.10.2"  # the version of the files
PYTHON = "3.11"  # likewise


def folder() -> Path:
    """Where environments, models and logs are: $PEERS_CACHE, or a folder of the user's cache."""
    given = os.environ.get("PEERS_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(given or f"{base}/grm_jax/peers").expanduser()


def has_gpu() -> bool:
    """Whether there is a GPU, by its driver's own command."""
    return shutil.which("nvidia-smi") is not None


def python_of(name: str, *, gpu: bool) -> str:
    """The interpreter of an environment, which is made if it is not there as it should be.

    Raises:
        ValueError: vLLM where there is no GPU, or there is no Python 3.11.
        CalledProcessError: pip could not install it.
    """
    if name == "vllm" and not gpu:
        raise ValueError("vllm is measured only where a GPU is.")
    if (file := REQUIREMENTS[name]) is None:
        return sys.executable
    place = folder() / "environments" / name
    python, stamp = place / "bin" / "python", place / "installed"
    requirements = HERE / "requirements" / file
    alone = ALONE.get(name, ())
    listed = requirements.read_bytes() + " ".join(alone).encode()
    wanted = hashlib.sha256(listed).hexdigest() + f" gpu={gpu}"
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"Installing {name} into {place}: once, some minutes.", file=sys.stderr)
        install(place, requirements, resolved=name in RESOLVED, alone=alone)
        if gpu and name not in RESOLVED:
            subprocess.run([python, "-m", "pip", "install", "-q", JAX_ON_GPU], check=True)
        stamp.write_text(wanted)
    return str(python)


def install(
    place: Path, requirements: Path, *, resolved: bool, alone: tuple[str, ...] = ()
) -> None:
    """A fresh environment with these packages, by uv where it is, else by venv and pip.

    alone: packages that are installed without those that they need.
    """
    exact = [] if resolved else ["--no-deps"]
    if uv := shutil.which("uv"):
        subprocess.run([uv, "venv", "-q", "--clear", "--seed", "--python", PYTHON, place],
                       check=True)  # fmt: skip
        pip = [uv, "pip", "install", "-q", "--python", place / "bin" / "python"]
    else:
        subprocess.run([interpreter(), "-m", "venv", "--clear", place], check=True)
        # The files are for this Python; like uv, ask no package whether it is too new.
        pip = [place / "bin" / "python", "-m", "pip", "install", "-q", "--ignore-requires-python"]
    subprocess.run([*pip, *exact, "-r", requirements], check=True)
    if alone:
        subprocess.run([*pip, "--no-deps", *alone], check=True)


def interpreter() -> str:
    """A Python of the version that the files are for: this one, or another on the PATH.

    Raises:
        ValueError: there is none.
    """
    if f"{sys.version_info.major}.{sys.version_info.minor}" == PYTHON:
        return sys.executable
    name = f"python{PYTHON}"
    # One that pyenv has on the PATH for a version that is not chosen does not answer.
    if shutil.which(name) and not subprocess.run([name, "-c", ""], capture_output=True).returncode:
        return name
    raise ValueError(
        f"the peers' packages are pinned for Python {PYTHON}, and this is "
        f"{sys.version.split()[0]}: put {name} on the PATH, or install uv, which brings it."
    )
