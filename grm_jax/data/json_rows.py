"""Rows in JSON: one on each line, or the items of arrays, or objects one after another."""

import codecs
import io
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

BOM = "\ufeff"
# A file that two programs wrote to may have a byte order mark in the middle, too.
BLANK = f" \t\r\n\v\f{BOM}"
WIDE = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def encoding_of(start: bytes) -> str:
    """UTF-8, or what the byte order mark at the start of the file says."""
    return next((name for mark, name in WIDE.items() if start.startswith(mark)), "utf-8")


def not_utf8(error: UnicodeDecodeError) -> ValueError:
    """The error for a byte that is not UTF-8."""
    return ValueError(
        f"byte {error.start + 1} is not UTF-8: save the file as UTF-8 (in Excel as CSV UTF-8)"
    )


def text_lines(file: BinaryIO) -> Iterator[tuple[int, str, ValueError | None]]:
    """(number, text, None) of each line; a line that is not UTF-8 has an error instead of None.

    Raises UnicodeError on broken UTF-16, where reading cannot go on.
    """
    first = file.readline()
    if (encoding := encoding_of(first)) != "utf-8":
        whole = io.BufferedReader(_Joined(first, file))
        for line, text in enumerate(io.TextIOWrapper(whole, encoding, newline="\n"), 1):
            yield line, text, None
        return
    line = 1
    while first:
        try:
            yield line, first.decode(), None
        except UnicodeDecodeError as error:
            yield line, first.decode(errors="replace"), not_utf8(error)
        line, first = line + 1, file.readline()


class _Joined(io.RawIOBase):
    """Bytes already read, followed by the rest of a file that cannot be rewound."""

    def __init__(self, start: bytes, rest: BinaryIO):
        self._start, self._rest = start, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        taken = self._start[: len(buffer)] or self._rest.read(len(buffer))
        self._start = self._start[len(taken) :]
        buffer[: len(taken)] = taken
        return len(taken)


def json_lines(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """The rows of a file with one JSON value per line; blank lines are skipped."""
    for line, text, wrong in text_lines(file):
        if wrong:
            yield line, wrong
        elif text := text.strip(BLANK):
            yield line, _decode(text)


def _decode(text: str) -> Any:
    """The row in a line of JSON, or the ValueError that says why it cannot be read."""
    try:
        return DECODER.decode(text)
    except json.JSONDecodeError as error:
        return ValueError(
            f"this is not JSON ({error.msg} at character {error.pos + 1}): "
            "each line must hold one JSON object"
        )
    except (ValueError, RecursionError) as error:
        return ValueError(f"this JSON cannot be read: {_why(error)}")


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return error.msg
    # The decoder has only two other errors.
    deep = isinstance(error, RecursionError)
    return "it is nested too deep" if deep else "it has a number of more than 4300 digits"


def json_values(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """The items of the arrays in a file, and its top-level objects; stops at the first error."""
    raw = file.read()
    try:
        text = raw.decode(encoding_of(raw))
    except UnicodeDecodeError as error:
        yield 1, not_utf8(error)
        return
    array, line, end = False, 1, 0
    while (start := _after_blank(text, end)) < len(text):
        line += text.count("\n", end, start)
        if text[start] == ("]" if array else "["):
            array, end = not array, start + 1
            continue
        try:
            row, end = DECODER.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            yield line, ValueError(f"this is not JSON ({_why(error)}): what follows it is not read")
            return
        yield line, row
        line += text.count("\n", start, end)
    if array:
        yield line, ValueError("the file ends before its array is closed: it may have been cut off")


def _after_blank(text: str, start: int) -> int:
    while start < len(text) and (text[start].isspace() or text[start] in f",{BOM}"):
        start += 1
    return start


def _object(pairs: list[tuple[str, Any]]) -> Any:
    """The object, or a ValueError if a key has two values, of which one would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        for name, value in pairs:
            if found[name] != value:
                return ValueError(f"the key {name} comes twice, with different values")
    return found


DECODER = json.JSONDecoder(object_pairs_hook=_object)
