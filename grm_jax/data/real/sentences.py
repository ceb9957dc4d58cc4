"""Sentences, words and content words of English text, by rules that a reader can check."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
LINE = re.compile(r"[^\n]+")
STOP = re.compile(r"[.!?…]+[\"'”’)\]*_]*(?=\s+\S)")
# What a full stop does not end a sentence after: titles, initials, numbers of list items.
SHORT = re.compile(
    r"(?:^|[\s(])(?:mr|mrs|ms|dr|st|vs|no|etc|e\.g|i\.e|a\.m|p\.m|approx|[^\W\d_]|\d+)\.$",
    re.IGNORECASE,
)
LISTED = re.compile(r"^\s*(?:[-*•+]|\d+[.)])\s", re.M)
CODE = re.compile(r"```|^\s{4,}\S|[{};]\s*$|</\w+>|\|.*\|", re.M)

COMMON_WORDS = """
    about above across after again against almost along already also although always among
    another answer anything around asked based became because become been before began being below
    best better between both came cannot come comes complete could describe described different
    does doing done down during each either else enough even ever every everything example explain
    find first following follows found from gave generate gets getting give given gives goes going
    gone good have having help here hers herself himself however include includes including instead
    into itself just keep kind know last least less like likely list little look made make makes
    making many maybe might mine more most much must myself near need needs never next nothing
    often once only onto other others otherwise ours over part perhaps please possible provide
    question quite rather really right said same says second sentence several shall should since
    some someone something such sure take takes taken tell than that their theirs them themselves
    then there therefore these they thing things think this those though three through thus
    together told toward towards twice under until upon used uses using various very want wants
    well went were what whatever when where whether which while whole whom whose will with within
    without word words would write written wrote your yours yourself
"""
COMMON = frozenset(COMMON_WORDS.split())


def words(text: str) -> list[str]:
    """The words of the text; "don't" and "well-known" are one each."""
    return WORD.findall(text)


@lru_cache(4096)
def spans(text: str) -> tuple[tuple[int, int], ...]:
    """(start, end) of each sentence. A line break ends one, and so does a full stop before a space
    but for abbreviations."""
    found: list[tuple[int, int]] = []
    for line in LINE.finditer(text):
        start = line.start()
        for stop in STOP.finditer(line[0]):
            end = line.start() + stop.end()
            if not SHORT.search(text[start:end]):
                found.append((start, end))
                start = end
        found.append((start, line.end()))
    return tuple(_trimmed(text, *span) for span in found if text[slice(*span)].strip())


def sentences(text: str) -> list[str]:
    """The sentences, without the blanks around them."""
    return [text[start:end] for start, end in spans(text)]


def replaced(text: str, new: Sequence[str]) -> str:
    """The text with other sentences in the places of its own, and the blanks between them kept."""
    parts, last = [], 0
    for (start, end), sentence in zip(spans(text), new, strict=True):
        parts += [text[last:start], sentence]
        last = end
    return "".join([*parts, text[last:]])


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    inner = text[start:end]
    return start + len(inner) - len(inner.lstrip()), end - len(inner) + len(inner.rstrip())


def is_prose(text: str) -> bool:
    """Whether the text is sentences alone: no list, code or table."""
    return not LISTED.search(text) and not CODE.search(text)


def is_english(text: str) -> bool:
    """Whether nearly all letters are those of English."""
    letters = [char for char in text if char.isalpha()]
    return bool(letters) and sum(char.isascii() for char in letters) >= 0.98 * len(letters)


def stem(word: str) -> str:
    """The word without the commonest endings, in lower case."""
    word = word.lower().replace("’", "'").removesuffix("'s")
    for ending in ("ing", "ies", "es", "ed", "ly", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word


@lru_cache(4096)  # the same answers are looked at for many prompts
def content_words(text: str) -> Mapping[str, str]:
    """The words that say what a text is about, by their stems, as they stand where they come first.

    Words of four letters or more that are neither common nor numbers.
    """
    found: dict[str, str] = {}
    for word in re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)?", text):
        if len(word) >= 4 and word.lower() not in COMMON:
            found.setdefault(stem(word), word)
    return MappingProxyType(found)


def quoted(text: str) -> str:
    """The text in quotation marks on one line, those inside it made single."""
    return '"' + " ".join(text.split()).replace('"', "'") + '"'


def listed(parts: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1] if parts else "")))


def beginning(text: str, count: int = 5) -> str:
    """The first words of the text."""
    return " ".join(text.split()[:count])


def ending(text: str, count: int = 5) -> str:
    """The last words of the text."""
    return " ".join(text.split()[-count:])
