"""The image holds what the package is built from, and nothing that is not named."""

import fnmatch
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "launch" / "Dockerfile"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TEXT = DOCKERFILE.read_text()
COPIED = [source for line in re.findall(r"^COPY (.+)$", TEXT, re.M) for source in line.split()[:-1]]


def hadolint(path):
    command = [Path(sys.executable).with_name("hadolint"), path]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_dockerfile_is_clean(tmp_path):
    result = hadolint(DOCKERFILE)
    assert result.returncode == 0, result.stdout
    spoilt = tmp_path / "Dockerfile"
    spoilt.write_text(TEXT.replace(":3.11-slim", ""))
    assert "DL3006" in hadolint(spoilt).stdout


def test_what_is_copied_is_in_the_repository_and_reaches_the_builder():
    tracked = subprocess.check_output(["git", "-C", ROOT, "ls-files"], text=True).split("\n")
    ignored, *lines = (ROOT / "launch" / "Dockerfile.dockerignore").read_text().split("\n")[1:]
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert ignored == "*"
    assert let_in == set(COPIED)
    for source in COPIED:
        assert fnmatch.filter(tracked, source) or fnmatch.filter(tracked, f"{source}/*"), source


def test_what_the_package_is_built_from_is_there_before_it_is_installed():
    before = re.findall(r"^COPY (.+)$", TEXT.partition("RUN pip install")[0], re.M)
    there = {source for line in before for source in line.split()[:-1]}
    metadata, hatch = PROJECT["project"], PROJECT["tool"]["hatch"]
    needed = {"pyproject.toml", "constraints.txt", metadata["readme"], *metadata["license-files"]}
    needed |= {
        hatch["version"]["path"].partition("/")[0],
        *hatch["build"]["targets"]["wheel"]["only-include"],
    }
    assert needed <= there


def test_what_is_installed_exists():
    [extra] = re.findall(r"'\.\[(\w+)\]'", TEXT)
    assert extra in PROJECT["project"]["optional-dependencies"]
    assert "grm" in PROJECT["project"]["scripts"]
    entry = TEXT.partition("ENTRYPOINT ")[2]
    assert "/launch/env.sh && exec grm" in entry
