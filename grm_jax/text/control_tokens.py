"""Control tokens: which tokens of a vocabulary steer a model, and where a text names them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import tokenizers

# Gemma's added tokens that are ordinary text: they carry layout, not control.
HTML = re.compile(
    r"</?(table|caption|thead|tbody|tfoot|tr|th|td|h[1-6]|blockquote"
    r"|strong|em|b|i|u|s|sub|sup|code)>"
)
BRACKETED = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")


def control_tokens(tokenizer: tokenizers.Tokenizer, special: Iterable[str]) -> dict[str, int]:
    """Names and ids of the tokens that steer the model, and that text must not become.

    special: the names of those that settings call special.
    """
    known = {name: i for name in special if (i := tokenizer.token_to_id(name)) is not None}
    for i, token in tokenizer.get_added_tokens_decoder().items():
        shaped = BRACKETED.fullmatch(token.content) and not HTML.fullmatch(token.content)
        if token.special or shaped:
            known[token.content] = i
    return known


class Names:
    """Names, ready to be looked for in texts; some families have thousands."""

    def __init__(self, names: Iterable[str]):
        self._names = frozenset(names)
        self._sizes = sorted({len(name) for name in self._names}, reverse=True)
        firsts = "".join(sorted({name[0] for name in self._names}))
        self._first = re.compile(f"[{re.escape(firsts)}]" if firsts else "(?!)")

    def found(self, text: str) -> Iterator[tuple[int, int]]:
        """Where a name begins and ends, at each place where one begins: of several the longest."""
        for match in self._first.finditer(text):
            start = match.start()
            for size in self._sizes:
                if text[start : start + size] in self._names:
                    yield start, start + size
                    break

    def split(self, text: str) -> Iterator[tuple[str, str]]:
        """The text from left to right as (what stands before a name, the name); at last the rest
        and no name."""
        end = 0
        for start, stop in self.found(text):
            if start >= end:
                yield text[end:start], text[start:stop]
                end = stop
        yield text[end:], ""
