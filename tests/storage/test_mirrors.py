"""A folder and its mirror in a bucket: what is carried over, in which form and in which order."""

import os
import uuid

import pytest

from grm_jax import mirrors
from grm_jax.mirrors import Mirror
from grm_jax.places import Place


@pytest.fixture
def place():
    return Place(f"memory://{uuid.uuid4().hex}/run")


@pytest.fixture
def pair(place, tmp_path):
    """A folder and its mirror; each write of a file is later than those before."""
    folder = tmp_path / "run"
    folder.mkdir()
    return folder, Mirror(place, folder, file=False)


def write(path, text, mode="w"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open(mode) as file:
        file.write(text)


def ages(folder, *names):
    """Gives the files these ages, the first one the greatest."""
    for index, name in enumerate(names):
        os.utime(folder / name, (1000 + index, 1000 + index))


def pulled(place, folder):
    folder.mkdir()
    mirror = Mirror(place, folder, file=False)
    stale = mirror.pull()
    return {
        str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()
    }, stale


def test_lines_follow_in_parts_and_are_one_object_in_the_end(pair, place, tmp_path):
    folder, mirror = pair
    for number in range(3):
        write(folder / "rows.jsonl", f"line {number}\n", "a")
        mirror.push()
    write(folder / "rows.jsonl", "half a li", "a")
    mirror.push()
    names = list(place.files())
    assert len(names) == 3
    assert (place / "rows.jsonl").read() == b"line 0\n"
    assert pulled(place, tmp_path / "other") == ({"rows.jsonl": "line 0\nline 1\nline 2\n"}, [])
    write(folder / "rows.jsonl", "ne\n", "a")
    mirror.push(last=True)
    assert list(place.files()) == ["rows.jsonl"]
    found, _ = pulled(place, tmp_path / "end")
    assert found["rows.jsonl"] == (folder / "rows.jsonl").read_text()


def test_a_long_file_goes_in_pieces(pair, place, tmp_path, monkeypatch):
    monkeypatch.setattr(mirrors, "PIECE", 16)
    folder, mirror = pair
    lines = ["short\n", "l" * 50 + "\n", *["next\n"] * 9]
    write(folder / "rows.jsonl", "".join(lines))
    mirror.push()
    assert len(place.files()) > 3
    assert pulled(place, tmp_path / "other")[0]["rows.jsonl"] == "".join(lines)


def test_what_goes_on_after_a_pull_goes_on_there(pair, place, tmp_path):
    folder, mirror = pair
    write(folder / "rows.jsonl", "1\n")
    mirror.push()
    other = tmp_path / "other"
    other.mkdir()
    second = Mirror(place, other, file=False)
    second.pull()
    write(other / "rows.jsonl", "2\n", "a")
    second.push()
    assert (place / "rows.jsonl").read() == b"1\n"
    assert pulled(place, tmp_path / "third")[0]["rows.jsonl"] == "1\n2\n"


def test_parts_of_what_was_written_anew_are_known(pair, place, tmp_path):
    folder, mirror = pair
    for text in ("b\n", "a\n"):
        write(folder / "rows.jsonl", text, "a")
        mirror.push()
    parts = {name: (place / name).read() for name in place.files() if ".parts/" in name}
    write(folder / "rows.jsonl", "a\nb\n")
    mirror.push()
    assert list(place.files()) == ["rows.jsonl"]
    for name, content in parts.items():  # as if a kill had come before they were removed
        (place / name).write(content or b"")
    assert pulled(place, tmp_path / "other") == ({"rows.jsonl": "a\nb\n"}, list(parts))


def test_a_kill_leaves_a_state_that_there_was(pair, place, monkeypatch):
    """Files come in the order in which they were written: a file that says that others are whole
    is not there before they are."""
    folder, mirror = pair
    for name in ("z.bin", "model/weights", "done.json"):
        write(folder / name, name)
    ages(folder, "z.bin", "model/weights", "done.json")
    upload, come = Place.upload, []

    def counted(one, file):
        if len(come) == 2:
            raise KeyboardInterrupt
        come.append(one.name)
        upload(one, file)

    monkeypatch.setattr(Place, "upload", counted)
    with pytest.raises(KeyboardInterrupt):
        mirror.push()
    assert sorted(place.files()) == ["model/weights", "z.bin"]
    monkeypatch.setattr(Place, "upload", upload)
    mirror.push()
    assert "done.json" in place.files()


def test_a_file_that_changes_meanwhile_waits_for_its_turn(pair, place, monkeypatch):
    folder, mirror = pair
    write(folder / "first", "1")
    write(folder / "state.json", "before")
    ages(folder, "first", "state.json")
    upload = Place.upload

    def changed(one, file):
        upload(one, file)
        if file.name == "first":
            write(folder / "second", "2")
            write(folder / "state.json", "after both")

    monkeypatch.setattr(Place, "upload", changed)
    mirror.push()
    assert list(place.files()) == ["first"]
    mirror.push()
    assert (place / "state.json").read() == b"after both"


def test_only_what_lasts_is_carried_over(pair, place, tmp_path):
    folder, mirror = pair
    for name in ("kept.jsonl.part", "x.part", "x.ordered", ".hidden", "checkpoints/4/x", "a/b.txt"):
        write(folder / name, "x\n")
    mirror.push()
    assert sorted(place.files()) == ["a/b.txt", "kept.jsonl.part"]
    (folder / "a" / "b.txt").rename(folder / "c.txt")
    (place / "checkpoints/4/x").write(b"orbax's")
    mirror.push()
    assert sorted(place.files()) == ["c.txt", "checkpoints/4/x", "kept.jsonl.part"]
    assert set(pulled(place, tmp_path / "other")[0]) == {"c.txt", "kept.jsonl.part"}


def test_nothing_is_carried_over_twice(pair, place, tmp_path, monkeypatch):
    folder, mirror = pair
    write(folder / "rows.jsonl", "1\n")
    write(folder / "other", "1")
    mirror.push()
    other = tmp_path / "other"
    other.mkdir()
    second = Mirror(place, other, file=False)
    second.pull()
    for method in ("write", "upload", "remove"):
        monkeypatch.setattr(Place, method, lambda *given: pytest.fail("it is there"))
    for one in (mirror, second):
        one.push()
        one.push(last=True)
    monkeypatch.setattr(
        Place, "download", lambda one, names, to: pytest.fail("it is here") if names else None
    )
    second.pull()


def test_a_folder_moves_with_what_is_there_only(pair, place, monkeypatch):
    folder, mirror = pair
    write(folder / "rft" / "stage.json", "{}")
    write(folder / "rft" / "rows.jsonl", "1\n")
    mirror.push()
    write(folder / "rft" / "rows.jsonl", "2\n", "a")
    mirror.push()
    (place / "rft/rft/checkpoints/4/x").write(b"orbax's")
    mirror.move("rft", "rft.1")
    (folder / "rft").rename(folder / "rft.1")
    assert all(name.startswith("rft.1/") for name in place.files())
    assert "rft.1/rft/checkpoints/4/x" in place.files()
    monkeypatch.setattr(Place, "write", lambda *given: pytest.fail("it is there"))
    mirror.push()
    assert (place / "rft.1/rows.jsonl").read() == b"1\n"


def test_a_name_that_leads_elsewhere_is_not_copied(place, tmp_path):
    with pytest.raises(ValueError, match="no name of a file"):
        place.download(["../x"], tmp_path)
