"""Data sets of the library `datasets`: on the hub, or as `save_to_disk` left them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from grm_jax.data.tables import arrow_rows


def hub_dataset(hub_id: str, split: str | None, name: str | None, data_dir: str | None) -> Any:
    """A data set on the hub: downloaded once, then read from the cache, memory-mapped."""
    # Here, because it is slow to import; and in this file only.
    import datasets
    from datasets.exceptions import DatasetsError

    try:
        found = datasets.load_dataset(hub_id, name, split=split, data_dir=data_dir)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"there is no file or folder {hub_id}, and the data set of that name on the hub could "
            f"not be had: {reason}"
        ) from None
    return _one(hub_id, found, None)


def is_saved(folder: Path) -> bool:
    """Whether the folder was written by `save_to_disk`."""
    state = (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    return state or (folder / "dataset_dict.json").is_file()


def saved_dataset(folder: Path, split: str | None) -> Any:
    """A data set that `save_to_disk` wrote, memory-mapped."""
    import datasets
    import pyarrow

    try:
        found = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{folder} was written by save_to_disk, and cannot be read: {reason}"
        ) from None
    if split and not isinstance(found, Mapping):
        raise ValueError(f"{folder} is a data set without splits: leave split {split!r} out")
    return _one(str(folder), found, split)


def dataset_rows(dataset: Any) -> Iterator[dict[str, Any]]:
    """The rows as they are stored: images and sounds are not decoded."""
    for table in dataset.with_format("arrow").iter(batch_size=64):
        yield from arrow_rows(table)


def _one(where: str, found: Any, split: str | None) -> Any:
    if not isinstance(found, Mapping):
        return found
    if split is None and len(found) == 1:
        return next(iter(found.values()))
    if split not in found:
        lacking = f"no split {split!r}, but " if split else ""
        raise ValueError(f"{where} has {lacking}the splits {', '.join(found)}: choose one")
    return found[split]
