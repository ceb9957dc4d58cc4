"""Keeps untrusted text from forging the lines that give a prompt its structure.

What counts as structure is read off the template itself: every literal line of it, and every
literal piece that shares a line with a field. Text that looks like one of these to a reader, in
whatever letters, brackets, spacing or invisible characters, is quoted: `[The End of Response 1]`
becomes `(quoted: The End of Response 1)`. Everything else stays as it is.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

# Whatever a reader, or str.splitlines, takes for the end of a line.
LINE_ENDS = re.compile("(\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029])")

# Letters that look like a Latin one: the letter first, its look-alikes after it. NFKD and
# casefold have been at work before, so that styled and accented letters need no place here.
LOOK_ALIKES = (
    "aаαɑ bвβьƅ cсϲ dԁɗ eеєε fғƒ gցɡ hнһհ iіιıɩ jјϳ kкκ lӏⅼ mм nпηո oоοσօ pрρ qԛգ rгᴦɾ sѕꜱ "
    "tтτ uυսᴜ vνѵᴠ wԝωшɯ xхχ yуγү zᴢʐ 0ο 3зҙ"
)  # fmt: skip
HOMOGLYPHS = str.maketrans({other: g[0] for g in LOOK_ALIKES.split()[::-1] for other in g[1:]})
# Letters and symbols that show as nothing, or as a blank (the last two). Gemma's own tokenizer
# maps U+2581 to the very token of a space.
INVISIBLE = frozenset("\u115f\u1160\u17b4\u17b5\u3164\uffa0")
BLANK = frozenset("\u2800\u2581")

FIELD = r"\{([a-z_]+)\}"
# What trusted fields stand for; every other field is a hole of which nothing is known.
TRUSTED = dict.fromkeys(("i", "n", "low", "high", "label", "strength"), "0") | {"box": "boxed x"}
HOLE = "\0"

PAIRS = {("[", "]"), ("(", ")"), ("{", "}"), ("<", ">")}
WORD = re.compile(r"[^\W_]+")
# A reader sees past a few marks between two words; without a limit, a response of nothing but
# brackets would cost quadratic time.
GAP = r"[\W_]{0,8}"


@lru_cache(maxsize=1 << 14)
def _fold_char(char: str) -> str:
    """What a reader takes a character for, in lower-case ASCII where possible; "" if nothing."""
    folded = ""
    for part in unicodedata.normalize("NFKD", char).casefold().translate(HOMOGLYPHS):
        category = unicodedata.category(part)
        if part in BLANK or part.isspace():
            folded += " "
        elif part in INVISIBLE or category in ("Cf", "Cc", "Cs", "Mn", "Me"):
            continue
        else:
            folded += part if part.isascii() else {"Ps": "[", "Pe": "]"}.get(category, part)
    return folded


def _fold(text: str) -> tuple[str, Sequence[int]]:
    """The text as a reader takes it, and for each of its characters the place it came from."""
    if text.isascii() and text.isprintable():
        return text.lower(), range(len(text))
    pieces = [_fold_char(char) for char in text]
    return "".join(pieces), [i for i, piece in enumerate(pieces) for _ in piece]


def _line_key(folded: str) -> str:
    """What makes two lines look alike: letters and digits alone, or else marks alone."""
    letters = re.sub(r"[\W_]+", "", folded)
    return re.sub(r"\d+", "0", letters) or re.sub(r"\s+", "", folded)


@dataclass(frozen=True)
class Delimiters:
    """The literal lines and pieces of a template, ready to be looked for in untrusted text."""

    line_keys: frozenset[str]
    pieces: re.Pattern[str] | None = field(repr=False)

    @classmethod
    def of(cls, sections: Iterable[str]) -> "Delimiters":
        """Reads them off the texts of a template's sections."""
        keys, patterns = set(), set()
        for line in (line for section in sections for line in section.splitlines()):
            if not re.sub(FIELD, "", line).strip():
                continue
            for role in ("user", "assistant"):
                named = line.replace("{role}", role)
                parts = re.sub(FIELD, lambda m: TRUSTED.get(m[1], HOLE), named).split(HOLE)
                if len(parts) == 1:
                    folded = _fold(parts[0])[0].strip()
                    marked = _marked(folded)
                    patterns.add(marked)
                    # A lone "User" or "Hint" is no delimiter where the template has "[User]".
                    if not marked or len(WORD.findall(folded)) > 2:
                        keys.add(_line_key(folded))
                else:
                    patterns.add(_piece(parts[0], start=True))
                    patterns.update(_piece(part) for part in parts[1:-1])
                    patterns.add(_piece(parts[-1], end=True))
        patterns.discard("")
        joined = "|".join(sorted(patterns))
        return cls(frozenset(keys), re.compile(joined) if joined else None)

    def quote(self, text: str) -> str:
        """The text with every look-alike of a delimiter quoted, and all else unchanged."""
        parts = LINE_ENDS.split(text)
        parts[::2] = [self._quote_line(line) for line in parts[::2]]
        return "".join(parts)

    def _quote_line(self, line: str) -> str:
        folded, origin = _fold(line)
        if _line_key(folded) in self.line_keys:
            return _quoted(line)
        if self.pieces is None:
            return line
        done, at, out = 0, 0, []
        while match := self.pieces.search(folded, at):
            start, end = match.span()
            while start > at and folded[start - 1] == folded[start] and not folded[start].isalnum():
                start -= 1
            while (
                end < len(folded) and folded[end] == folded[end - 1] and not folded[end].isalnum()
            ):
                end += 1
            first, last = origin[start], origin[end - 1] + 1
            out += [line[done:first], _quoted(line[first:last])]
            done, at = last, end
        return "".join(out) + line[done:]


def _quoted(text: str) -> str:
    core = re.sub(r"^[\W_]+|[\W_]+$", "", text)
    return f"(quoted: {core or text.strip()})"


def _marked(folded: str) -> str:
    """A pattern for a line between marks, as [..] or #### .. ####; "" for any other line.

    Between its marks it is found within other lines too, and at the end or start of one with the
    mark of one side. A single word may stand between such marks for other reasons, as in d[user]:
    it is found on a line of its own.
    """
    words = WORD.findall(folded)
    first, last = folded[0], folded[-1]
    if not words or first.isalnum() or (first, last) not in {*PAIRS, (first, first)}:
        return ""
    body = _worded(words)
    if len(words) == 1:
        left, right = f"^{GAP}{re.escape(first)}", f"{re.escape(last)}{GAP}$"
    else:
        left, right = re.escape(first), re.escape(last)
    return rf"{left}{GAP}{body}(?:{GAP}{right}|\s{{0,8}}$)|^\s{{0,8}}{body}{GAP}{right}"


def _piece(part: str, start: bool = False, end: bool = False) -> str:
    """A pattern for the literal text beside a field, at the start or end of a line or anywhere."""
    folded = _fold(part)[0].strip()
    if not folded:
        return ""
    words = WORD.findall(folded)
    body = re.escape(folded)
    if words:
        left = "" if folded[0].isalnum() else re.escape(folded[0]) + GAP
        right = "" if folded[-1].isalnum() else GAP + re.escape(folded[-1])
        body = left + _worded(words) + right
    return (r"^\s{0,8}" if start else "") + body + (r"\s{0,8}$" if end else "")


def _worded(words: list[str]) -> str:
    return GAP.join(re.sub(r"\d+", lambda _: r"\d+", re.escape(word)) for word in words)
