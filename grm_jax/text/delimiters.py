"""Keeps untrusted text from forging the lines that give a prompt its structure.

What counts as structure is read off the template itself: every literal line of it, and every
literal piece that shares a line with a field. Text that looks like one of these to a reader, in
whatever letters, brackets, spacing or invisible characters, is quoted: `[The End of Response 1]`
becomes `(quoted: The End of Response 1)`, and so does one that is broken over lines. Everything
else stays as it is.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from grm_jax.text.answer_format import LETTERS
from grm_jax.text.look_alikes import fold_char

# Whatever a reader, or str.splitlines, takes for the end of a line.
LINE_ENDS = re.compile("(\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029])")

FIELD = r"\{([a-z_]+)\}"
# What trusted fields stand for; every other field is a hole of which nothing is known.
TRUSTED = dict.fromkeys(("i", "n", "low", "high", "label", "strength"), "0") | {"box": "boxed x"}
HOLE = "\0"

PAIRS = {("[", "]"), ("(", ")"), ("{", "}"), ("<", ">")}
WORD, MARKS, DIGITS = re.compile(r"[^\W_]+"), re.compile(r"[\W_]+"), re.compile(r"\d+")
# A reader sees past a few marks between two words; without a limit, a response of nothing but
# brackets would cost quadratic time.
GAP = r"[\W_]{0,8}"
# Letters, digits and marks of ASCII that look alike, by Unicode's confusables.
ALIKE = {"o": "[o0]", "i": "[il1|]", "l": "[il1|]", "m": "(?:m|rn)"}


def _fold(text: str) -> tuple[str, Sequence[int]]:
    """The text as a reader takes it, and for each of its characters the place it came from."""
    if text.isascii() and text.isprintable():
        return text.lower(), range(len(text))
    pieces = [fold_char(char) for char in text]
    return "".join(pieces), [i for i, piece in enumerate(pieces) for _ in piece]


class _Line(NamedTuple):
    """A line of a text: what ends it, what a reader takes it for, and where that came from."""

    text: str
    end: str
    folded: str
    origin: Sequence[int]
    key: str


def _line(text: str, end: str) -> _Line:
    folded, origin = _fold(text)
    return _Line(text, end, folded, origin, _line_key(folded))


def _line_key(folded: str) -> str:
    """What makes two lines look alike: letters and digits alone, or else marks alone."""
    letters = MARKS.sub("", folded)
    return DIGITS.sub("0", letters) or "".join(folded.split())


@dataclass(frozen=True)
class Delimiters:
    """The literal lines and pieces of a template, ready to be looked for in untrusted text."""

    line_keys: frozenset[str]
    pieces: re.Pattern[str] | None = field(repr=False)
    # What is looked for across the ends of lines: the beginnings of keys, and what stands between
    # two marks.
    beginnings: frozenset[str] = field(repr=False)
    broken: re.Pattern[str] | None = field(repr=False)

    @classmethod
    def of(cls, sections: Iterable[str]) -> "Delimiters":
        """Reads them off the texts of a template's sections."""
        keys, patterns, broken = set(), set(), set()
        for line in (line for section in sections for line in section.splitlines()):
            if not re.sub(FIELD, "", line).strip():
                continue
            for named in _spelled(line):
                parts = re.sub(FIELD, lambda m: TRUSTED.get(m[1], HOLE), named).split(HOLE)
                if len(parts) == 1:
                    folded = _fold(parts[0])[0].strip()
                    marked = _marked(folded)
                    patterns.add(marked)
                    broken.add(_between_marks(folded))
                    # A lone "User" or "Hint" is no delimiter where the template has "[User]".
                    if not marked or len(WORD.findall(folded)) > 2:
                        keys.add(_line_key(folded))
                else:
                    patterns.add(_piece(parts[0], start=True))
                    patterns.update(_piece(part) for part in parts[1:-1])
                    patterns.add(_piece(parts[-1], end=True))
        # Lines of one or two words that happen to follow each other are no delimiter.
        long = [key for key in keys if len(key) > 12]
        beginnings = frozenset(key[:end] for key in long for end in range(1, len(key)))
        return cls(frozenset(keys), _any(patterns), beginnings, _any(broken))

    def quote(self, text: str) -> str:
        """The text with every look-alike of a delimiter quoted, and all else unchanged."""
        parts = [*LINE_ENDS.split(text), ""]
        lines = list(map(_line, parts[::2], parts[1::2]))
        for i, line in enumerate(lines):
            quoted = self._quote_line(line)
            if quoted is not line.text:
                lines[i] = _line(quoted, line.end)
        return self._quote_broken(lines)

    def _quote_line(self, line: _Line) -> str:
        if line.key in self.line_keys:
            return _quoted(line.text)
        if self.pieces is None:
            return line.text
        folded, origin = line.folded, line.origin
        done, at, out = 0, 0, list[str]()
        while match := self.pieces.search(folded, at):
            start, end = match.span()
            while start > at and folded[start - 1] == folded[start] and not folded[start].isalnum():
                start -= 1
            while (
                end < len(folded) and folded[end] == folded[end - 1] and not folded[end].isalnum()
            ):
                end += 1
            first, last = origin[start], origin[end - 1] + 1
            out += [line.text[done:first], _quoted(line.text[first:last])]
            done, at = last, end
        return "".join(out) + line.text[done:] if out else line.text

    def _quote_broken(self, lines: list[_Line]) -> str:
        """The text, with what only the ends of lines keep from being a delimiter quoted."""
        text = "".join([part for line in lines for part in (line.text, line.end)])
        if len(lines) == 1:
            return text
        folded = "".join([line.folded for line in lines])
        marked = list(self.broken.finditer(folded)) if self.broken else []
        whole = list(self._broken_lines(lines))
        if not marked and not whole:
            return text
        starts = list(accumulate((len(line.text + line.end) for line in lines), initial=0))
        spans = [(starts[i], starts[j] + len(lines[j].text)) for i, j in whole]
        origin = [
            start + i for line, start in zip(lines, starts, strict=False) for i in line.origin
        ]
        spans += [(origin[match.start()], origin[match.end() - 1] + 1) for match in marked]
        done, out = 0, []
        for first, last in sorted(spans):
            if first >= done:
                out += [text[done:first], _quoted(text[first:last])]
                done = last
        return "".join(out) + text[done:]

    def _broken_lines(self, lines: list[_Line]) -> Iterator[tuple[int, int]]:
        """The first and the last of lines in a row that make one that is a delimiter as a whole."""
        written = [i for i, line in enumerate(lines) if line.key]
        for place, i in enumerate(written):
            key, last = lines[i].key, place
            while key in self.beginnings and last + 1 < len(written):
                last += 1
                key += lines[written[last]].key
                if key in self.line_keys:
                    yield i, written[last]


def _spelled(line: str) -> Iterator[str]:
    """A template's line as it stands in prompts, for every role and letter that it may name."""
    for role in ("user", "assistant"):
        for letter in LETTERS if "{letter}" in line else ("",):
            yield line.replace("{role}", role).replace("{letter}", letter)


def _any(patterns: Iterable[str]) -> re.Pattern[str] | None:
    """A pattern for any of the patterns, of which some may be empty."""
    joined = "|".join(sorted(set(patterns) - {""}))
    return re.compile(joined) if joined else None


def _quoted(text: str) -> str:
    """The text in quotes, without the marks around it, unless it is nothing but marks."""
    written = [i for i, char in enumerate(text) if fold_char(char).isalnum()]
    return f"(quoted: {text[written[0] : written[-1] + 1] if written else text.strip()})"


def _marked(folded: str) -> str:
    """A pattern for a line between marks, as [..] or #### .. ####; "" for any other line.

    Between its marks it is found within other lines too, and at the end or start of one with the
    mark of one side. A single word may stand between such marks for other reasons, as in d[user]:
    it is found on a line of its own.
    """
    words, marks = WORD.findall(folded), _marks(folded)
    if not words or not marks:
        return ""
    (left, right), body = marks, _worded(words)
    if len(words) == 1:
        left, right = f"^{GAP}{left}", f"{right}{GAP}$"
    return rf"{left}{GAP}{body}(?:{GAP}{right}|\s{{0,8}}$)|^\s{{0,8}}{body}{GAP}{right}"


def _between_marks(folded: str) -> str:
    """The same for a line of several words, with both marks, where line ends are left out."""
    words, marks = WORD.findall(folded), _marks(folded)
    return f"{marks[0]}{GAP}{_worded(words)}{GAP}{marks[1]}" if marks and len(words) > 1 else ""


def _marks(folded: str) -> tuple[str, str] | None:
    """The marks on both sides of a line, as patterns, if they are a pair."""
    first, last = folded[0], folded[-1]
    if first.isalnum() or (first, last) not in {*PAIRS, (first, first)}:
        return None
    return re.escape(first), re.escape(last)


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
    # In a long delimiter a reader takes l, I and O for digits too.
    number = r"(?:\d+|[ilo|]{1,2})" if len(words) > 2 else r"\d+"

    def letter(match: re.Match[str]) -> str:
        return number if match[0].isdigit() else ALIKE.get(match[0], re.escape(match[0]))

    return GAP.join(re.sub(r"\d+|\D", letter, word) for word in words)
