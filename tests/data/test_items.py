"""Labelled items: of the world, and of files."""

import json

import pytest

from grm_jax.data.items import ItemsConfig, load_items


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
    file = write(tmp_path / "a.jsonl", [pair("a"), pair("b"), pair("c"), pair("d")])
    part = ItemsConfig(file.rows, start=1, limit=2)
    items = load_items((part, ItemsConfig(limit=2)), 0)
    assert [item.id for item in items] == ["b", "c", "train-0-0", "train-0-1"]
    assert all(item.label is not None for item in items)


def test_what_cannot_be_an_item_is_told_and_left(tmp_path, capsys):
    rows = [pair("a"), {"id": "t", "prompt": "q", "responses": ["a", "b"]}, {"nothing": 1}]
    items = load_items((write(tmp_path / "a.jsonl", rows),), 0)
    assert [item.id for item in items] == ["a"]
    told = capsys.readouterr().err
    assert "1 rows have no label" in told
    assert "a.jsonl:3" in told


def test_two_items_of_one_id_are_refused(tmp_path):
    sources = (
        write(tmp_path / "a.jsonl", [pair("a")]),
        write(tmp_path / "b.jsonl", [pair("a", chosen="other")]),
    )
    with pytest.raises(ValueError, match="two items have the id a"):
        load_items(sources, 0)


def test_no_items_at_all_are_refused(tmp_path):
    rows = [{"id": "t", "prompt": "q", "responses": ["a", "b"]}]
    with pytest.raises(ValueError, match="no labelled items"):
        load_items((write(tmp_path / "a.jsonl", rows),), 0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"start": -1, "limit": 1}, "start is -1"),
        ({"limit": 0}, "limit is 0"),
        ({}, "the world has no end"),
        ({"limit": 1, "split": "test"}, "split is test"),
    ],
)
def test_settings_out_of_range_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        ItemsConfig(**options)
