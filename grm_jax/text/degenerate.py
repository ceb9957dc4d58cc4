"""Responses in which there is nothing to judge: empty, blank, or without a visible character."""

import unicodedata
from collections.abc import Sequence

# Unicode calls these letters, marks or symbols, and they show as nothing: Hangul and Khmer fillers,
# the combining grapheme joiner, variation selectors, the empty Braille pattern.
UNSEEN = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, [*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]))
)
# Controls, formats, and separators of words, lines and paragraphs.
CATEGORIES = frozenset(("Cc", "Cf", "Zs", "Zl", "Zp"))


def degeneracy(text: str) -> str | None:
    """Why there is nothing to judge: "empty", "blank" or "no visible text"; None where there is."""
    if not text:
        return "empty"
    if text.isspace():
        return "blank"
    shows = (c not in UNSEEN and unicodedata.category(c) not in CATEGORIES for c in text)
    return None if any(shows) else "no visible text"


def degenerate(responses: Sequence[str]) -> dict[int, str]:
    """The responses in which there is nothing to judge, by index, and why."""
    found = ((index, degeneracy(response)) for index, response in enumerate(responses))
    return {index: why for index, why in found if why}
