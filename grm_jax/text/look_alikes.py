"""What a reader takes a character for: a small c of any script, style or enclosure is a c."""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

# LATIN LETTER SMALL CAPITAL T, NEGATIVE CIRCLED LATIN CAPITAL LETTER T, REGIONAL INDICATOR SYMBOL
# LETTER T, LATIN SMALL LETTER T WITH HOOK.
NAMED = re.compile(
    r"(?:LATIN|LATIN SMALL|LATIN CAPITAL|SYMBOL) LETTER (?:SMALL CAPITAL )?([A-Z])(?: WITH .*)?$"
)
# What Unicode's table of confusables does not hold.
MORE = {"є": "e", "ғ": "f", "п": "n", "Ꮑ": "n", "Ꭴ": "o", "ɾ": "r", "ω": "w", "ш": "w"}
# Letters and symbols that show as nothing, or as a blank (the last two). Gemma's own tokenizer
# maps U+2581 to the very token of a space.
INVISIBLE = frozenset("\u115f\u1160\u17b4\u17b5\u3164\uffa0")
BLANK = frozenset("\u2800\u2581")
# Marks on other letters, and what shows as nothing or as a box: formats and controls, surrogates,
# what is unassigned (as U+2065) or for private use.
UNSEEN = frozenset(("Mn", "Me", "Cf", "Cc", "Cs", "Cn", "Co"))


@lru_cache(maxsize=1 << 14)
def fold_char(char: str) -> str:
    """What a reader takes a character for, in lower-case ASCII where possible; "" if nothing."""
    if char.isascii() or unicodedata.category(char) in UNSEEN:
        return _fold_part(char)
    if like := MORE.get(char.casefold()):
        return like
    if named := NAMED.search(unicodedata.name(char, "")):
        return named[1].lower()
    # Before the decomposition, which makes a sigma of a Greek symbol that looks like a c.
    if char.isalnum() and (like := _ascii_looks(char)) and like[0].isalnum():
        return like[0]
    return "".join(map(_fold_part, unicodedata.normalize("NFKD", char)))


def _fold_part(char: str) -> str:
    category = unicodedata.category(char)
    if char in BLANK or char.isspace():
        return " "
    if char in INVISIBLE or category in UNSEEN:
        return ""
    if char.isascii():
        return char.lower()
    if category in ("Ps", "Pe"):
        return "[" if category == "Ps" else "]"
    for near in _ascii_look_alikes(char):
        # A stroke of Chinese or Japanese that looks like a mark is a letter all the same.
        if near.isalnum() or not char.isalnum():
            return near
    return char.casefold()


def _ascii_look_alikes(char: str) -> Iterator[str]:
    """The ASCII characters that look like it, the nearest first.

    The table leads to some of them in two steps, or by way of a capital.
    """
    yield from _ascii_looks(char)
    cases = {char: None, char.upper(): None, char.lower(): None}
    for other in cases:
        yield from _ascii_looks(other)
    for like in (like for other in cases for like in _looks(other)):
        for other in (like, like.upper(), like.lower()):
            yield from _ascii_looks(other)


def _ascii_looks(char: str) -> list[str]:
    """Of what looks like a character: single ASCII characters, then such with a stroke or hook."""
    looks = sorted(_looks(char), key=lambda like: (len(like), like))
    first = [like[0] for like in looks if not any(map(str.isalnum, like[1:]))]
    return [like.lower() for like in first if like.isascii()]


def _looks(char: str) -> list[str]:
    """All that looks like a character, by Unicode's confusables (UTS 39)."""
    # Read when the first character that is not ASCII is seen: a twentieth of a second.
    from confusable_homoglyphs.confusables import confusables_data

    return [entry["c"] for entry in confusables_data.get(char, ())]
