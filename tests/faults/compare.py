"""Two output folders of one command: which lines are lost, doubled or different."""

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

# What a clock says is no result; checkpoints are compared by what is made from them.
CLOCK = ("time/", "tokens_per_second")
CLOCK_OF_A_PAGE = (
    rb"(?s)(?:the whole run took|wrote and learned from) [^.]*|<h2 id=.time.>.*?</section>"
)
PASSED_OVER = {"checkpoints", "set-aside"}
SUFFIXES = {".jsonl", ".json", ".yaml", ".safetensors", ".html", ".csv", ".svg"}


@dataclass
class Difference:
    """Lines of the undisturbed run that are not there, lines that are there once more, and files
    that differ in another way, each with its name and a word."""

    lost: int = 0
    doubled: int = 0
    different: list[str] = field(default_factory=list)

    @property
    def any(self) -> bool:
        return bool(self.lost or self.doubled or self.different)


def files(folder: Path) -> dict[str, Path]:
    """What a run leaves for its user, by the name in its folder."""
    return {
        str(path.relative_to(folder)): path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.suffix in SUFFIXES
        and not PASSED_OVER & set(path.relative_to(folder).parts)
    }


def compare(disturbed: Path, whole: Path) -> Difference:
    """How a run that was disturbed differs from one that was not."""
    ours, wanted = files(disturbed), files(whole)
    found = Difference()
    found.different += [f"{name}: missing" for name in wanted if name not in ours]
    found.different += [f"{name}: only here" for name in ours if name not in wanted]
    for name in sorted(set(ours) & set(wanted)):
        here, there = _content(ours[name], disturbed), _content(wanted[name], whole)
        if here == there:
            continue
        if not name.endswith(".jsonl"):
            found.different.append(f"{name}: {_first_change(here, there)}")
            continue
        lines, expected = Counter(here.splitlines()), Counter(there.splitlines())
        more = lines - expected
        found.lost += sum((expected - lines).values())
        found.doubled += sum(count for line, count in more.items() if line in expected)
        others = sum(count for line, count in more.items() if line not in expected)
        if others or lines == expected:
            found.different.append(f"{name}: {others or 'the order of'} lines")
    return found


def _content(path: Path, folder: Path) -> bytes:
    """The bytes of a file without its folder's name and without what a clock said."""
    data = path.read_bytes().replace(str(folder).encode(), b"OUTPUT")
    if path.name == "metrics.jsonl":
        rows = [json.loads(line) for line in data.splitlines()]
        kept = [{k: v for k, v in row.items() if not k.startswith(CLOCK)} for row in rows]
        return "".join(json.dumps(row) + "\n" for row in kept).encode()
    if path.name == "stage.json":
        return json.dumps(json.loads(data) | {"seconds": 0}).encode()
    return re.sub(CLOCK_OF_A_PAGE, b"", data) if path.suffix == ".html" else data


def _first_change(here: bytes, there: bytes) -> str:
    at = next((i for i, (a, b) in enumerate(zip(here, there, strict=False)) if a != b), None)
    at = min(len(here), len(there)) if at is None else at
    near = slice(max(at - 30, 0), at + 30)
    return f"byte {at}: {here[near]!r} for {there[near]!r}"
