"""The files of a tokenizer: tokenizer.json, and what a model folder says beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grm_jax import presets
from grm_jax.places import at_hand
from grm_jax.text.files import is_hub_id, read_object, refuse_pointer

SETTINGS, MAP, TEMPLATE = "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"
GENERATION = "generation_config.json"
# Files that transformers can make a tokenizer.json of.
OTHERS = ("tokenizer.model", "spiece.model", "vocab.json", "tiktoken.model", SETTINGS)
SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")


@dataclass(frozen=True)
class Words:
    """What stands beside a tokenizer.json.

    Attributes:
        chat_template: Jinja, or None where there is none.
        names: the texts of the special tokens, such as {"eos_token": "</s>"}.
        stops: the ids at which generation ends, of generation_config.json.
        files: those that are kept as they are, by name.
    """

    chat_template: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    stops: tuple[int, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)


def find(path_or_hub_id: str | Path) -> Path:
    """The folder or file that is meant: bundled, a path, or the download of a hub id.

    Raises:
        FileNotFoundError: there is none.
    """
    name = str(path_or_hub_id)
    own = presets.bundled(name) if name in presets.BUNDLED else at_hand(path_or_hub_id)
    path = own.expanduser()
    return path if path.exists() else _fetch(name)


def read_words(folder: Path) -> Words:
    """What a folder says beside its tokenizer.json.

    Raises:
        ValueError: a file that cannot be read, or says what it may not; names it.
    """
    settings = _object(folder / SETTINGS)
    kept = [folder / name for name in (SETTINGS, MAP, TEMPLATE) if (folder / name).is_file()]
    return Words(
        chat_template=_chat_template(folder, settings),
        names=_names(_object(folder / MAP)) | _names(settings),
        stops=_stops(folder / GENERATION),
        files={path.name: path.read_bytes() for path in kept},
    )


def words_in(settings: Mapping[str, Any], stops: tuple[int, ...]) -> Words:
    """The same of settings that are in no file of their own."""
    template = settings.get("chat_template")
    return Words(template, _names(settings), stops, {SETTINGS: json.dumps(settings).encode()})


def words_of(theirs: Any) -> Words:
    """The same of a tokenizer that transformers has loaded."""
    template = getattr(theirs, "chat_template", None)
    if isinstance(template, Mapping):
        template = template.get("default")
    return Words(template, _names({name: getattr(theirs, name, None) for name in SPECIAL}))


def convert(folder: Path) -> Any:
    """The tokenizer in a folder without tokenizer.json, as transformers makes it.

    Raises:
        FileNotFoundError: there is none, or transformers is not installed.
        ValueError: transformers cannot make it, or not one that is fast.
    """
    found = [name for name in OTHERS if (folder / name).is_file()]
    if not found or found == [SETTINGS]:
        raise FileNotFoundError(
            f"{folder} has no tokenizer.json: copy the one that belongs to the model into it"
        )
    advice = f"or make {folder / 'tokenizer.json'} elsewhere, with save_pretrained of transformers"
    try:
        from transformers import AutoTokenizer  # slow to import, and few folders need it
    except ImportError:
        raise FileNotFoundError(
            f"{folder} has {found[0]} but no tokenizer.json, and transformers, which makes one of "
            f"it, is not installed: pip install transformers sentencepiece; {advice}"
        ) from None
    try:
        theirs = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # of many kinds, a missing sentencepiece or protobuf among them
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{folder} has {found[0]} but no tokenizer.json, and transformers could not make one "
            f"({type(error).__name__}: {reason}): pip install sentencepiece tiktoken protobuf if "
            f"one of them is missing; {advice}"
        ) from None
    if not hasattr(theirs, "backend_tokenizer"):
        raise ValueError(
            f"transformers reads {found[0]} in {folder} with {type(theirs).__name__}, which is "
            f"written in Python and has no tokenizer.json: give a folder with one; {advice}"
        )
    return theirs


def _object(path: Path) -> dict[str, Any]:
    return read_object(path) if path.is_file() else {}


def _names(settings: Mapping[str, Any]) -> dict[str, str]:
    """The special tokens that the settings name, as text or as {"content": text}."""
    names: dict[str, str] = {}
    for name in SPECIAL:
        token = settings.get(name)
        text = token.get("content") if isinstance(token, Mapping) else token
        if text is not None and str(text):
            names[name] = str(text)
    return names


def _chat_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """The template in a file of its own, or else in the settings; of several the default."""
    path = folder / TEMPLATE
    if path.is_file():
        refuse_pointer(path)
        try:
            return path.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path} is not UTF-8 text ({error.reason}): save it as UTF-8"
            ) from None
    template = settings.get("chat_template")
    if isinstance(template, list):
        try:
            template = {entry["name"]: entry["template"] for entry in template}
        except (TypeError, KeyError):
            raise ValueError(
                f"{folder / SETTINGS}: chat_template is a list of something else than "
                '{"name", "template"}'
            ) from None
    if isinstance(template, dict):
        if "default" not in template and len(template) != 1:
            raise ValueError(
                f"{folder / SETTINGS} has the chat templates {', '.join(map(str, template))} and "
                f'no "default": put the one to use into {path}'
            )
        template = template.get("default") or next(iter(template.values()))
    if template is not None and not isinstance(template, str):
        raise ValueError(f"{folder / SETTINGS}: chat_template is {template!r}, and must be text")
    return template or None


def _stops(path: Path) -> tuple[int, ...]:
    """eos_token_id, a number or a list of them."""
    found = _object(path).get("eos_token_id")
    stops = found if isinstance(found, list) else [] if found is None else [found]
    for stop in stops:
        if type(stop) is not int or stop < 0:
            raise ValueError(
                f"{path}: eos_token_id is {found!r}; it must be the id of a token, or a list of ids"
            )
    return tuple(stops)


def _fetch(hub_id: str) -> Path:
    """The folder with the files of the hub model's tokenizer, downloaded or from the cache."""
    if not is_hub_id(hub_id):
        raise FileNotFoundError(
            f"there is no tokenizer at {hub_id}: give a folder with tokenizer.json, "
            "that file itself, or a hub id such as google/gemma-2-2b-it"
        )
    # Here, because it is slow to import and only hub ids need it.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError

    wanted = ["tokenizer.json", *OTHERS, "merges.txt", MAP, TEMPLATE, GENERATION, "config.json"]
    try:
        return Path(snapshot_download(hub_id, allow_patterns=wanted))
    except GatedRepoError:
        reason = (
            "on the hub it is gated: accept its terms on its page and log in with `hf auth login`"
        )
    except RepositoryNotFoundError:
        reason = "no such model that you may read is on the hub"
    except (EntryNotFoundError, OSError) as error:
        reason = "the hub gave no tokenizer: " + str(error).split("\n")[0]
    raise FileNotFoundError(
        f"the tokenizer of {hub_id} could not be had: there is no such folder here (looked from "
        f"{Path.cwd()}), and {reason}"
    )
