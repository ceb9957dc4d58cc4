"""Which files of a folder hold rows, and which a program keeps there for itself."""

import re
from collections.abc import Mapping
from pathlib import Path

from grm_jax.data.formats import KNOWN, RowFile, row_file

SPLIT = re.compile(r"(train|test|dev|val|valid|validation|eval)[-._]")
# What data sets, models and programs keep about themselves.
BOOKS = {
    "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "croissant.json",
    "package.json", "package-lock.json", "config.json", "generation_config.json", "grm.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
}  # fmt: skip
# What our commands write beside their settings, which lie in one of these.
SETTINGS = ("settings.yaml", "config.yaml")
OUTPUTS = {
    "chosen.jsonl", "critiques.jsonl", "filter.jsonl", "greedy.jsonl", "metrics.jsonl",
    "paper.json", "report.json", "rollouts.jsonl", "rows.jsonl", "samples.jsonl", "stage.json",
    "trajectories.jsonl",
}  # fmt: skip

# The columns by which a table of `grm table` is known.
TABLES = (
    {"response", "mean_score", "rank", "tied", "counted", "status"},
    {"benchmark", "cell", "vote", "k_meta", "unanswered", "partial"},
)
ERROR = {"id", "error", "passing", "line", "path", "digest", "row"}  # a row without a verdict


def files_of(folder: Path, split: str | None) -> tuple[tuple[RowFile, ...], str]:
    """The files of rows in a folder, in order; and what was left out, in a few words or "".

    split: only those of it, see `_of_split`. Raises ValueError with a sentence where none is.
    """
    found, left_out = [], []
    known = [path for path in sorted(folder.rglob("*")) if row_file(path) and not path.is_dir()]
    for path in _of_split(known, split):
        file = row_file(path)
        assert file is not None
        if reason := _why_not(file, path.relative_to(folder)):
            left_out.append(f"{path.relative_to(folder)} ({reason})")
        else:
            found.append(file)
    more = f" and {len(left_out) - 5} more" if len(left_out) > 5 else ""
    told = f"left out: {', '.join(left_out[:5])}{more}" if left_out else ""
    if not found:
        which = f" whose name begins with {split!r}" if split else ""
        raise ValueError(
            f"{folder} holds no file{which} of the kinds {KNOWN}{'; ' if told else ''}{told}"
        )
    return tuple(found), told


def inside(path: Path, *folders: str) -> Path:
    """The folder of a configuration or of data_dir in a data set's folder, as the hub has it."""
    if path.is_file():
        raise ValueError(f"name and data_dir are for folders and the hub, and {path} is one file")
    folder = path.joinpath(*folders)
    if not folder.is_dir():
        there = ", ".join(sorted(item.name for item in path.iterdir() if item.is_dir()))
        raise FileNotFoundError(
            f"there is no folder {folder}, where name and data_dir would have it; {path} holds "
            f"{there or 'no folders'}"
        )
    return folder


def _of_split(files: list[Path], split: str | None) -> list[Path]:
    """The files of a split: those named by it alone (train.jsonl, train-00000-of-00001.parquet), or
    else those whose names begin with it. Where no file names any split, all are `train`."""
    if split is None:
        return files
    named = [file for file in files if re.match(rf"{re.escape(split)}[-.]", file.name)]
    begun = named or [file for file in files if file.name.startswith(split)]
    unnamed = split == "train" and not any(SPLIT.match(file.name) for file in files)
    return files if not begun and unnamed else begun


def _why_not(file: RowFile, inside: Path) -> str:
    """Why the file holds no rows to be read, or nothing."""
    path = file.path
    if any(part.startswith((".", "~", "__MACOSX")) for part in inside.parts):
        return "hidden"
    if path.name in BOOKS or path.name.endswith(".index.json"):
        return "it describes other files"
    if not path.is_file():
        return "no file, or a link to none"
    beside = any(path.with_name(name).exists() for name in SETTINGS)
    if (beside and path.name in OUTPUTS) or path.with_name(f"{path.name}.yaml").exists():
        return "written by grm"
    ours = file.form in (".jsonl", ".csv", ".parquet") and _is_ours(file)
    return "written by grm" if ours else ""


def _is_ours(file: RowFile) -> bool:
    """Whether the first row is one that our commands write."""
    _, row = next(file.rows(), (0, None))
    if not isinstance(row, Mapping):
        return False
    if file.form != ".jsonl":
        return any(columns <= set(row) for columns in TABLES)
    judgments = row.get("judgments")
    first = judgments[0] if isinstance(judgments, list) and judgments else None
    is_judged = isinstance(first, Mapping) and {"order", "sample", "scores"} <= set(first)
    is_error = {"id", "error"} <= set(row) <= ERROR
    return is_judged or is_error
