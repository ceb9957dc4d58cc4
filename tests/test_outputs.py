"""Whose an output is: nothing that is not ours is touched, nothing of other settings is mixed in,
and no two processes write one output."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from grm_jax.fingerprint import fingerprint
from grm_jax.outputs import Made, check_file, claimed_file, claimed_folder
from grm_jax.paths import expanded

MADE = Made("grm test", {"k": 2, "input": "rows.jsonl", "mesh": None}, free=("mesh",))


def made(**changes) -> Made:
    return Made("grm test", {**MADE.settings, **changes}, free=("mesh",))


def everything(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def refused(claim, *says: str) -> None:
    """The claim is refused with these words, and has changed no file."""
    with pytest.raises(ValueError, match=r"\w") as told, claim:
        pass
    for words in says:
        assert words in str(told.value)


def test_a_file_of_ours_is_found_again_and_its_settings_can_be_fed_back(tmp_path):
    for _ in range(2):
        with claimed_file(tmp_path / "new" / "v.jsonl", MADE) as path:
            path.write_text("a line\n")
    mark = tmp_path / "new" / "v.jsonl.yaml"
    assert yaml.safe_load(mark.read_text()) == MADE.settings
    assert {p.name for p in mark.parent.iterdir()} == {"v.jsonl", "v.jsonl.yaml"}  # no lock is left


@pytest.mark.parametrize("settings", [None, "- a list\n", "name: theirs\n"])
def test_a_file_that_is_not_ours_stays_as_it_is(settings, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    if settings is not None:
        path.with_name("notes.txt.yaml").write_text(settings)
    before = everything(tmp_path)
    refused(claimed_file(path, MADE), "notes.txt", "name another output")
    assert everything(tmp_path) == before


def test_settings_that_are_not_ours_stay_where_there_is_no_file_yet(tmp_path):
    (tmp_path / "v.jsonl.yaml").write_text("name: theirs\n")
    before = everything(tmp_path)
    refused(claimed_file(tmp_path / "v.jsonl", MADE), "v.jsonl.yaml", "it has name")
    assert everything(tmp_path) == before


def test_an_empty_file_is_nobodys(tmp_path):
    (tmp_path / "v.jsonl").touch()
    with claimed_file(tmp_path / "v.jsonl", MADE):
        pass


@pytest.mark.parametrize(
    "content", [b"", b"k: [1", b"\xff\xfe", b"just text"], ids=["empty", "cut", "bytes", "text"]
)
def test_emptied_or_damaged_settings_are_told(content, tmp_path):
    for claim in (claimed_file, claimed_folder):
        path = tmp_path / claim.__name__
        with claim(path, MADE):
            if claim is claimed_file:
                path.write_text("a line\n")
        mark = path / "config.yaml" if path.is_dir() else path.with_name(f"{path.name}.yaml")
        mark.write_bytes(content)
        refused(claim(path, MADE), str(mark), "is empty or damaged")


def test_an_input_is_no_output_however_it_is_spelled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = Path("rows.jsonl")
    rows.write_text("{}\n")
    Path("link.jsonl").symlink_to(rows)
    Path("v.jsonl.yaml").write_text("{}\n")
    before = everything(tmp_path)
    for output in ("rows.jsonl", "./rows.jsonl", str(rows.absolute()), "link.jsonl"):
        refused(claimed_file(output, MADE, apart=[rows]), "would overwrite the input")
    refused(claimed_file("v.jsonl", MADE, apart=["v.jsonl.yaml"]), "would overwrite the input")
    assert everything(tmp_path) == before


def test_a_folder_is_no_file_and_a_file_no_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    refused(claimed_file(tmp_path / "folder", MADE), "is a folder")
    refused(claimed_folder(tmp_path / "file", MADE), "is a file")
    refused(claimed_file(tmp_path / "file" / "v.jsonl", MADE), "cannot be written")
    with pytest.raises(ValueError, match="is a folder"):
        check_file(tmp_path / "folder", lambda _: True, "a page")


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"k": 3}, "k was 2 and is now 3"), ({"input": "x"}, "input was 'rows.jsonl' and is now 'x'")],
)
def test_other_settings_are_refused_by_name(changes, says, tmp_path):
    for claim in (claimed_file, claimed_folder):
        path = tmp_path / claim.__name__
        with claim(path, MADE):
            if claim is claimed_file:
                path.write_text("a line\n")
        before = everything(tmp_path)
        refused(claim(path, made(**changes)), says)
        assert everything(tmp_path) == before
        with claim(path, made(mesh={"data": 2}, input="./rows.jsonl", new_option=8)):
            pass


def test_other_files_under_the_same_settings_are_refused(tmp_path):
    read = [Made("grm test", {"model": "m"}, reads={"model": name}) for name in ("a", "b")]
    with claimed_folder(tmp_path / "run", read[0]):
        pass
    refused(claimed_folder(tmp_path / "run", read[1]), "the files of model are not what they were")
    with claimed_folder(tmp_path / "run", Made("grm test", {"model": "m"})):
        pass  # nothing is known of them


def test_another_commands_output_is_refused(tmp_path):
    with claimed_folder(tmp_path / "run", MADE):
        pass
    other = Made("grm other", MADE.settings)
    refused(claimed_folder(tmp_path / "run", other), "was made by grm test, and this is grm other")


def test_a_folder_with_other_things_in_it_is_refused_but_for_logs(tmp_path):
    for name in (".hidden", "train.log", "nohup.out"):
        (tmp_path / name).write_text("x")
    with claimed_folder(tmp_path, MADE):
        pass
    (tmp_path / "config.yaml").unlink()
    (tmp_path / "thesis.tex").write_text("x")
    before = everything(tmp_path)
    refused(claimed_folder(tmp_path, MADE), "thesis.tex", "no config.yaml of grm test")
    (tmp_path / "config.yaml").write_text("name: theirs\n")
    refused(claimed_folder(tmp_path, MADE), "is no file of settings of grm test")
    (tmp_path / "config.yaml").unlink()
    assert everything(tmp_path) == before
    with claimed_folder(tmp_path, MADE, signs=["*.tex"]):
        pass


def test_settings_of_an_earlier_version_are_ours(tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"k": 2}))
    with claimed_folder(tmp_path, MADE):
        pass
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"k": 3}))
    refused(claimed_folder(tmp_path, MADE), "k was 3 and is now 2")


def test_only_one_process_is_in_an_output(tmp_path):
    for claim in (claimed_file, claimed_folder):
        path = tmp_path / claim.__name__
        with claim(path, MADE):
            refused(claim(path, MADE), f"another process is writing {path}")
        with claim(path, MADE):
            pass


def test_a_dead_process_holds_no_lock(tmp_path):
    lock = tmp_path / "run" / ".lock"
    lock.parent.mkdir()
    code = (
        "import filelock, os, signal, sys; filelock.FileLock(sys.argv[1]).acquire(); "
        "print(os.path.exists(sys.argv[1]), flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    child = subprocess.run(
        [sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True
    )
    assert (child.returncode, child.stdout) == (-signal.SIGKILL, "True\n")
    assert lock.exists()
    with claimed_folder(lock.parent, MADE):
        pass


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, capsys):
    def no_locks(self, timeout):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(FileLock, "acquire", no_locks)
    with claimed_folder(tmp_path / "run", MADE):
        pass
    assert "has no locks: make sure yourself" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_told(tmp_path):
    tmp_path.chmod(0o500)
    try:
        refused(claimed_file(tmp_path / "v.jsonl", MADE), "cannot be written", "Permission denied")
    finally:
        tmp_path.chmod(0o700)


def test_an_address_is_no_file_for_what_is_written_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="an address, but this command writes to ordinary paths"):
        check_file("gs://bucket/page.html", lambda file: True, "a page of ours")
    assert not list(tmp_path.iterdir())


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with claimed_file("~/v.jsonl", MADE) as path:
        assert path == tmp_path / "v.jsonl"
    assert expanded("./x") == Path("x")
    assert str(expanded("owner/name")) == "owner/name"


def test_a_file_in_one_go_replaces_only_its_own_kind(tmp_path):
    path = tmp_path / "page.html"
    ours = lambda file: file.read_text() == "ours"  # noqa: E731
    assert check_file(path, ours, "a page of ours") == path
    path.write_text("ours")
    check_file(path, ours, "a page of ours")
    path.write_text("theirs")
    with pytest.raises(ValueError, match="is not a page of ours"):
        check_file(path, ours, "a page of ours")


def test_a_fingerprint_is_of_what_is_in_the_files(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "templates").mkdir(parents=True)
        (tmp_path / name / "model.safetensors").write_bytes(bytes(1 << 20))
        (tmp_path / name / "templates" / "grm.txt").write_text("ask")
    first = fingerprint(tmp_path / "a")
    (tmp_path / "b" / "README.md").write_text("a card")
    (tmp_path / "b" / ".DS_Store").write_text("x")
    assert fingerprint(tmp_path / "b") == first
    weights = tmp_path / "b" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[700_001] ^= 1
    weights.write_bytes(content)
    assert fingerprint(tmp_path / "b") != first
    (tmp_path / "a" / "templates" / "grm.txt").rename(tmp_path / "a" / "templates" / "judge.txt")
    assert fingerprint(tmp_path / "a") != first
    one = tmp_path / "rows.jsonl"
    one.write_text("1")
    before = fingerprint(one)
    one.write_text("22")
    assert fingerprint(one) != before
