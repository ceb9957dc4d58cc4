"""The files of `grm data real`: rows of both sides, demonstrations, and what they hold."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from grm_jax.data.real.chats import Row, demonstrations, drilled, in_round
from grm_jax.data.real.config import RealDataConfig
from grm_jax.data.real.items import Item, Maker
from grm_jax.data.real.kinds import Quota
from grm_jax.data.real.materials import ANSWER, Material, read_materials
from grm_jax.data.real.prompt_groups import sides
from grm_jax.data.real.shortcuts import baselines
from grm_jax.outputs import write_whole
from grm_jax.progress import counted
from grm_jax.randomness import item_key, real_stream
from grm_jax.text.json_line import json_line
from grm_jax.text.prompts import load_templates

QUANTILES = {"10%": 0.1, "50%": 0.5, "90%": 0.9, "99%": 0.99, "most": 1.0}
DONORS = 200  # prompts whose answers may serve as off topic


def write_real_data(cfg: RealDataConfig, folder: Path) -> Mapping[str, Any]:
    """Makes the items and writes all files into a folder that is claimed; gives the manifest.

    Raises:
        FileNotFoundError, ValueError: a source or the templates cannot be read, or no prompt is on
            one of the two sides.
    """
    counts: Counter[str] = Counter()
    templates = load_templates(cfg.templates)
    # Three texts of an item have room: a prompt and two responses.
    materials = read_materials(cfg.sources, counts, min(ANSWER, cfg.longest // 3))
    split: dict[str, list[Item]] = {}
    where = sides([material.key for material in materials], cfg.heldout)
    own = {
        side: [material for material, its in zip(materials, where, strict=True) if its == side]
        for side in ("train", "heldout")
    }
    for side, mine in own.items():
        split[side] = _made(cfg, mine, side)
        if not split[side]:
            raise ValueError(f"no item is on the side {side}: give more rows, or another heldout.")
    for name, items in split.items():
        # By hash, so that the first rows of a file are a sample of all sources and kinds.
        items.sort(key=lambda item: item.digest)
        _write(folder / f"{name}.jsonl", map(_row, items))
    shown = demonstrations(cfg, split["train"], templates)
    drills = drilled(cfg, own["train"], templates)
    _write(folder / "demonstrations.jsonl", shown)
    _write(folder / "drills.jsonl", drills)
    manifest = _manifest(cfg, materials, split, shown, len(drills), counts)
    write_whole(folder / "manifest.json", json.dumps(manifest, indent=2) + "\n")
    write_whole(folder / "README.md", _readme(manifest))
    return manifest


def _made(cfg: RealDataConfig, materials: Sequence[Material], side: str) -> list[Item]:
    """The items of one side; what is off topic comes from that side too, and is of the same sort:
    a solution of another problem, or an answer that is none."""
    share = cfg.heldout / (1 - cfg.heldout) if side == "heldout" else 1.0
    good = [_good(material) for material in materials]
    # A solution among letters and recipes would be known at a glance.
    alike = {sort: [i for i, m in enumerate(materials) if (m.gold is None) == sort and good[i]]
             for sort in (True, False)}  # fmt: skip
    items: dict[str, Item] = {}
    for turn in range(cfg.rounds if side == "train" else 1):
        quota = Quota(math.ceil(cfg.per_kind * share))
        for i, material in enumerate(counted(materials, side, "prompt")):
            rng = real_stream(cfg.seed, item_key(in_round(material.key, turn)))
            others = alike[material.gold is None]
            drawn = rng.integers(len(others), size=DONORS).tolist() if others else []
            donors = [good[others[place]] for place in dict.fromkeys(drawn) if others[place] != i]
            maker = Maker(material, donors, quota, rng, cfg.per_prompt, cfg.longest)
            for item in maker.items():
                items.setdefault(item.digest, item)
    return list(items.values())


def _good(material: Material) -> str:
    """The first good answer; "" where there is none."""
    return next((one.text for one in material.answers if one.good), "")


def _prompt_name(material: Material) -> str:
    """A name for a prompt, which all its items share."""
    return hashlib.sha256(material.key.encode()).hexdigest()[:12]


def _row(item: Item) -> Row:
    material = item.material
    return {
        "id": item.id,
        "prompt": item.query.text,
        "responses": list(item.responses),
        "label": item.label,
        **({} if item.query.gold is None else {"reference": item.query.gold}),
        "kind": item.kind,
        "kinds": list(item.kinds),
        "unit": _prompt_name(material),  # intervals draw the items of one prompt together
        "source": material.source,
        "licence": material.licence,
    }


def _manifest(
    cfg: RealDataConfig,
    materials: Sequence[Material],
    split: Mapping[str, Sequence[Item]],
    shown: Sequence[Row],
    drills: int,
    counts: Counter[str],
) -> dict[str, Any]:
    sources: dict[str, dict[str, Any]] = {}
    for source in cfg.sources:
        sources[source.source] = {"licence": source.licence, "holds": source.holds, "prompts": 0}
    for material in materials:
        sources[material.source]["prompts"] += 1
    for side, items in split.items():
        for name, number in Counter(item.material.source for item in items).items():
            sources[name][side] = number
    kinds: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for side, items in split.items():
        for kind, number in sorted(Counter(item.kind for item in items).items()):
            kinds[kind][side] = number
    for kind, number in Counter(row["kind"] for row in shown).items():
        kinds[kind]["demonstrations"] = number
    totals = {side: len(items) for side, items in split.items()}
    return {
        "items": totals | {"demonstrations": len(shown), "drills": drills},
        "sources": sources,
        "rows": dict(sorted(counts.items())),
        "shapes": {side: dict(Counter(i.shape for i in items)) for side, items in split.items()},
        "kinds": dict(sorted(kinds.items())),
        "characters": _lengths(shown),
        "baselines": baselines(split["train"], split["heldout"]),
    }


def _lengths(shown: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Quantiles of the characters of prompts and of critiques."""
    parts = {
        "prompt": sorted(len(row["messages"][0]["content"]) for row in shown),
        "critique": sorted(len(row["messages"][1]["content"]) for row in shown),
        "both": sorted(sum(len(turn["content"]) for turn in row["messages"]) for row in shown),
    }
    return {
        name: {label: sizes[int(q * (len(sizes) - 1))] for label, q in QUANTILES.items()}
        for name, sizes in parts.items()
        if sizes
    }


def _readme(manifest: Mapping[str, Any]) -> str:
    """The manifest for people."""
    sources = "\n".join(
        f"| {name} | {of['licence']} | {of['prompts']} | {of.get('train', 0)} | "
        f"{of.get('heldout', 0)} |"
        for name, of in manifest["sources"].items()
    )
    reached = manifest["baselines"]
    kinds = "\n".join(
        f"| {kind} | {of.get('train', 0)} | {of.get('heldout', 0)} | "
        f"{of.get('demonstrations', 0)} | {_percent(reached.get(kind))} |"
        for kind, of in manifest["kinds"].items()
    )
    train, heldout, shown, drills = manifest["items"].values()
    return f"""# Real text whose label is sure

Made by `grm data real`; the settings are in config.yaml, all counts in manifest.json. The texts are
changed copies of rows under the licences below: pass their notices on with them.

- train.jsonl, heldout.jsonl: {train} and {heldout} labelled items. No prompt, or near-duplicate of
  one, is on both sides.
- demonstrations.jsonl: {shown} chats that show how to judge the train items.
- drills.jsonl: {drills} chats in which five sentences of the train side are judged at once.

| source | licence | prompts | train | held out |
|---|---|---|---|---|
{sources}

What is reached without reading, in percent of the held-out items with two or more responses: a
guess, the longest response, a logistic regression on nine features of the surface.

| kind | train | held out | demonstrations | guess | longest | features |
|---|---|---|---|---|---|---|
{kinds}
| all | {train} | {heldout} | {shown} | {_percent(reached.get("all"))} |
"""


def _percent(of: Mapping[str, float] | None) -> str:
    if of is None:
        return "– | – | –"
    return " | ".join(f"{100 * of[name]:.0f}" for name in ("guess", "longest", "features"))


def _write(path: Path, rows: Iterable[Row]) -> None:
    """Writes JSON lines; the file gets its name when it is complete."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        file.writelines(map(json_line, rows))
    os.replace(part, path)
