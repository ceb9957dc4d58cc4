"""Labelled items: of the world, and of files."""

import json

import pytest

from grm_jax.data.config import ItemsConfig
from grm_jax.data.items import load_items


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ItemsConfig(str(path))


def pair(name, **more):
    return {"id": name, "prompt": "q", "chosen": "a", "rejected": "b", **more}


def test_the_world_gives_the_same_items_for_the_same_seed():
    config = ItemsConfig(limit=20)
    items = load_items((config,), 3)
    assert len(items) == 20
    assert load_items((config,), 3) == items
    assert load_items((config,), 4) != items
    later = load_items((ItemsConfig(start=5, limit=3),), 3)
    assert later == items[5:8]


def test_splits_of_the_world_share_no_question():
    train = load_items((ItemsConfig(limit=300),), 0)
    heldout = load_items((ItemsConfig(split="heldout", limit=300),), 0)

    def questions(items):
        return {item.prompt[-1].content.split("?")[0] for item in items}

    assert not questions(train) & questions(heldout)
    assert not {item.id for item in train} & {item.id for item in heldout}


def test_sources_follow_each_other(tmp_path):
    file = write(tmp_path / "a.jsonl", [pair(name, chosen=name) for name in "abcd"])
    part = ItemsConfig(file.source, start=1, limit=2)
    items = load_items((part, ItemsConfig(limit=2)), 0)
    assert [item.id for item in items] == ["b", "c", "train-0-0", "train-0-1"]
    assert all(item.label is not None for item in items)


def test_what_cannot_be_an_item_is_counted_and_left(tmp_path, capsys):
    rows = [pair("a"), {"id": "t", "prompt": "q", "responses": ["a", "b"]}, {"nothing": 1}]
    rows += [{"nothing": number} for number in range(7)]
    file = write(tmp_path / "a.jsonl", rows)
    items = load_items((file,), 0)
    assert [item.id for item in items] == ["a"]
    told = capsys.readouterr().err
    assert told.startswith(f"{file.source}: read with")
    assert "1 items; rows left out: 1 without a label, 8 that cannot be read." in told
    assert [f"a.jsonl:{line}:" in told for line in (3, 4, 5, 6)] == [True, True, True, False]


def test_start_and_limit_count_labelled_rows(tmp_path):
    tie = {"prompt": "q", "responses": ["a", "b"]}
    rows = [{"nothing": 1}, pair("a"), tie, pair("b", chosen="c"), tie, pair("c", chosen="d")]
    file = write(tmp_path / "a.jsonl", rows)
    items = load_items((ItemsConfig(file.source, start=1, limit=1),), 0)
    assert [item.id for item in items] == ["b"]


def test_items_of_one_id_in_two_files_are_told_apart_by_content(tmp_path, capsys):
    """All are there, nothing is twice, and a file's own items are named as without the other."""
    first = write(tmp_path / "a.jsonl", [pair("a"), pair("b", chosen="x")])
    rows = [pair("a", chosen="other"), pair("b", chosen="x"), pair("z"), pair("c", prompt="r")]
    second = write(tmp_path / "b.jsonl", rows)
    alone = load_items((first,), 0)
    items = load_items((first, second), 0)
    assert items[:2] == alone
    assert [item.id for item in items] == ["a", "b", f"a#{items[2].digest[:8]}", "c"]
    assert items[2].responses == ("other", "b")
    assert len({item.digest for item in items}) == 4
    assert "b.jsonl: 2 items; rows left out: 2 that came before." in capsys.readouterr().err
    assert load_items((first, first), 0) == alone


def test_a_row_that_came_before_with_another_label_is_said(tmp_path, capsys):
    row = {"id": "a", "prompt": "q", "responses": ["a", "b"]}
    files = [write(tmp_path / f"{i}.jsonl", [row | {"label": i}]) for i in (0, 1)]
    (item,) = load_items(tuple(files), 0)
    assert item.label == 0
    assert "1 that came before with another label" in capsys.readouterr().err


def test_a_source_without_items_is_refused_even_beside_another(tmp_path):
    none = write(tmp_path / "a.jsonl", [{"id": "t", "prompt": "q", "responses": ["a", "b"]}])
    with pytest.raises(ValueError, match=r"no labelled items in .*a\.jsonl .*1 without a label"):
        load_items((ItemsConfig(limit=1), none), 0)


def test_a_folder_in_the_hubs_layout_is_read_by_name_data_dir_and_split(tmp_path):
    places = (
        "algebra/train-00000-of-00001",
        "algebra/test-00000-of-00001",
        "geometry/train-00000-of-00001",
        "data/train_prefs-00000-of-00002",
        "data/train_prefs-00001-of-00002",
        "data/train-00000-of-00001",
        "preference/preference",
    )
    for place in places:
        file = tmp_path / f"{place}.jsonl"
        file.parent.mkdir(exist_ok=True)
        write(file, [pair(place, chosen=place)])

    def ids(**options):
        return {item.id for item in load_items((ItemsConfig(str(tmp_path), **options),), 0)}

    assert ids() == set(places)
    assert ids(name="algebra") == set(places[:2])
    assert ids(name="algebra", split="train") == {places[0]}
    assert ids(data_dir="data", split="train_prefs") == set(places[3:5])
    assert ids(data_dir="data", split="train") == {places[5]}
    assert ids(data_dir="preference", split="train") == {places[6]}
    with pytest.raises(FileNotFoundError, match=r"algebra, data, geometry, preference"):
        ids(name="calculus")
    with pytest.raises(ValueError, match="begins with 'test'"):
        ids(data_dir="preference", split="test")


def test_what_a_hub_set_needs_reaches_the_hubs_library(monkeypatch):
    import datasets

    asked = []

    def load_dataset(*args, **options):
        asked.append((args, options))
        return datasets.Dataset.from_list([pair("a")])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    load_items((ItemsConfig("some/set", "train", name="algebra", data_dir="preference"),), 0)
    assert asked == [(("some/set", "algebra"), {"split": "train", "data_dir": "preference"})]


def test_a_row_that_names_another_split_is_not_taken(tmp_path, capsys):
    """HelpSteer2 has the rows of both splits in one file, in its folder `preference`."""
    rows = [pair(name, chosen=name, split=name) for name in ("train", "val", "easy")]
    file = write(tmp_path / "preference.jsonl", rows).source
    items = load_items((ItemsConfig(str(tmp_path), "train"),), 0)
    assert [item.id for item in items] == ["train", "easy"]
    assert "1 of another split" in capsys.readouterr().err
    assert len(load_items((ItemsConfig(file),), 0)) == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"start": -1, "limit": 1}, "start is -1"),
        ({"limit": 0}, "limit is 0"),
        ({}, "the world has no end"),
        ({"limit": 1, "split": "test"}, "split is test"),
        ({"limit": 1, "name": "algebra"}, "for data sets"),
    ],
)
def test_settings_out_of_range_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        ItemsConfig(**options)


@pytest.mark.parametrize("nothing", ["", " \n", "\u200b"])
def test_a_best_response_of_nothing_teaches_nothing(tmp_path, capsys, nothing):
    """It is counted and left out; as a worse response it is an item like any other."""
    rows = [
        {"prompt": "q", "chosen": nothing, "rejected": "7"},
        {"prompt": "q", "chosen": "8", "rejected": nothing},
        {"prompt": "q", "response": nothing + " ", "label": 1},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (item,) = load_items((ItemsConfig(str(path)),), seed=0)
    assert item.responses == ("8", nothing)
    assert "whose best response is empty" in capsys.readouterr().err
