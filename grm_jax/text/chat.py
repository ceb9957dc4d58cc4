"""The turns of a chat as a model's own template has them.

Every family has a template of its own (Jinja, in tokenizer_config.json or chat_template.jinja).
It is rendered with marks in the place of the texts, once for each sequence of roles, and cut at
the marks. What is judged is filled in afterwards: no template ever sees it, so it cannot change
what a template writes, and it can be told from the template's own words, the only ones that may
become control tokens.

A template may strip the blanks around a text, which is found out and done likewise. One that does
more to a text than that is refused.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from jinja2 import Environment, Template, TemplateSyntaxError, meta, nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

# What a template is given as today: the same rows make the same prompts on any day. It is the day
# that Llama's templates write where they are told none.
TODAY = datetime.date(2024, 7, 26)

MARK = re.compile("\ue000([0-9]+)\ue001")
# Blanks that a template may strip, the outermost first.
BLANKS = "\n \u2003"
# What a template must leave as it is, but for blanks at the ends.
SAMPLES = (" a", "\ta \n", "\n\nA b\n", "a\n\nb", " \n c\t\n ")


@dataclass(frozen=True)
class Slot:
    """Where a turn's text stands.

    Attributes:
        turn: its number, from 0.
        left: the characters that are stripped off its beginning; None: all blanks.
        right: the same of its end.
    """

    turn: int
    left: str | None
    right: str | None

    def fill(self, text: str) -> str:
        """The text as the template would show it."""
        return text.lstrip(self.left).rstrip(self.right)


Parts = tuple[str | Slot, ...]


class Refused(ValueError):
    """A template does not take turns of these roles."""


@dataclass(frozen=True)
class ChatTemplate:
    """A family's template.

    Args:
        text: Jinja, as transformers reads it.
        source: where it is from, for errors.
        names: the texts of special tokens that it may write, such as bos_token.
        arguments: what else it is given, such as enable_thinking.

    Raises:
        ValueError: it cannot be read, or has no such argument.
    """

    text: str
    source: str
    names: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    _known: dict[tuple[tuple[str, ...], bool], Parts] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        known = self.variables
        for name in self.arguments:
            if name not in known:
                raise ValueError(
                    f"the chat template of {self.source} has no argument {name!r}; "
                    + (f"there are {', '.join(known)}." if known else "it takes none.")
                )

    @property
    def variables(self) -> list[str]:
        """The arguments that the template takes, besides what every template is given."""
        return sorted(_compiled(self.text, self.source)[1] - {*_ALWAYS, *self.names})

    @property
    def dated(self) -> bool:
        """Whether the template writes today's date, which is always `TODAY` here."""
        calls = _compiled(self.text, self.source)[2]
        return "strftime_now" in calls and "date_string" not in self.arguments

    @cached_property
    def takes_system(self) -> bool:
        """Whether the template shows a system turn, in whatever way."""
        try:
            return "0" in MARK.findall(self._render(("system", "user"), _marks(2), False))
        except Refused:
            return False

    def parts(self, roles: Sequence[str], generation_prompt: bool) -> Parts:
        """The template's own words, and between them the slots for the turns' texts.

        generation_prompt: end with what opens the assistant's turn.

        Raises:
            Refused: the template takes no such turns.
            ValueError: it leaves a turn out, or does more to a text than to strip it.
        """
        key = (tuple(roles), generation_prompt)
        if key not in self._known:
            if len(self._known) >= 256:
                self._known.clear()
            self._known[key] = self._measured(*key)
        return self._known[key]

    def _measured(self, roles: tuple[str, ...], generation_prompt: bool) -> Parts:
        def literals(left: str = "", right: str = "") -> tuple[list[str], list[int]]:
            marks = [f"{left}{mark}{right}" for mark in _marks(len(roles))]
            pieces = MARK.split(self._render(roles, marks, generation_prompt))
            return pieces[::2], [int(turn) for turn in pieces[1::2]]

        words, turns = literals()
        for turn, role in enumerate(roles):
            if turn not in turns:
                raise ValueError(
                    f"the chat template of {self.source} leaves out turn {turn + 1} of "
                    f"{len(roles)}, the {role}'s, or shows it changed: {_ADVICE}"
                )
        (left, one), (right, two) = literals(left=BLANKS), literals(right=BLANKS[::-1])
        if not turns == one == two:
            raise self._changes()
        parts: list[str | Slot] = [words[0]]
        for place, turn in enumerate(turns):
            before = left[place].removeprefix(words[place])
            after = right[place + 1].removesuffix(words[place + 1])
            parts += [Slot(turn, _stripped(before), _stripped(after[::-1])), words[place + 1]]
        self._check(roles, generation_prompt, parts)
        return tuple(part for part in parts if part != "")

    def _check(self, roles: tuple[str, ...], generation_prompt: bool, parts: Sequence[str | Slot]):
        """Raises ValueError where the parts, filled, are not what the template makes of texts."""
        for shift in range(len(SAMPLES)):
            texts = [SAMPLES[(shift + turn) % len(SAMPLES)] for turn in range(len(roles))]
            filled = (
                part if isinstance(part, str) else part.fill(texts[part.turn]) for part in parts
            )
            if "".join(filled) != self._render(roles, texts, generation_prompt):
                raise self._changes()

    def _changes(self) -> ValueError:
        return ValueError(
            f"the chat template of {self.source} changes what a turn says, or what it writes "
            f"depends on that: {_ADVICE}"
        )

    def _render(self, roles: Sequence[str], texts: Sequence[str], generation_prompt: bool) -> str:
        turns = [{"role": r, "content": text} for r, text in zip(roles, texts, strict=True)]
        try:
            return _compiled(self.text, self.source)[0].render(
                messages=turns,
                tools=None,
                documents=None,
                add_generation_prompt=generation_prompt,
                **self.names,
                **self.arguments,
            )
        except Exception as error:  # its expressions may raise whatever they like
            raise Refused(
                f"the chat template of {self.source} does not take the turns {', '.join(roles)}: "
                f"{error}"
            ) from None


_ADVICE = (
    "put a template into the folder (chat_template.jinja) that shows every turn, and only strips "
    "blanks off its ends."
)
# What templates are given, and what they may call.
_ALWAYS = {"messages", "tools", "documents", "add_generation_prompt"}
_ALWAYS |= {f"{name}_token" for name in ("bos", "eos", "pad", "unk")}


def _marks(count: int) -> list[str]:
    return [f"\ue000{turn}\ue001" for turn in range(count)]


def _stripped(left: str) -> str | None:
    """Which characters are gone from the blanks, None for all of them; `left` is what is there."""
    gone = BLANKS.removesuffix(left) if left else BLANKS
    return None if gone == BLANKS else gone


class _Generation(Extension):
    """`{% generation %}`, which marks what a model is trained on, and shows it as it is."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _variables(tree: nodes.Template, environment: Environment) -> frozenset[str]:
    """The names that a template takes from outside: those that it does not set itself, or only
    where they are not defined."""
    names = meta.find_undeclared_variables(tree) - environment.globals.keys()
    own = {name.name for name in tree.find_all(nodes.Name) if name.ctx == "store"}
    tests = [test for test in tree.find_all(nodes.Test) if test.name in ("defined", "undefined")]
    asked = {test.node.name for test in tests if isinstance(test.node, nodes.Name)}
    return frozenset(names - (own - asked))


@lru_cache(maxsize=16)
def _compiled(text: str, source: str) -> tuple[Template, frozenset[str], frozenset[str]]:
    """A template as transformers compiles it, in a sandbox; the arguments that it takes, and the
    functions that it calls."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, **settings: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **settings)

    given: dict[str, Callable[..., Any]] = {
        "raise_exception": raise_exception,
        "strftime_now": TODAY.strftime,
    }
    environment.filters["tojson"] = tojson
    environment.globals |= given
    try:
        tree = environment.parse(text)
        called = (call.node for call in tree.find_all(nodes.Call))
        calls = frozenset(name.name for name in called if isinstance(name, nodes.Name))
        return environment.from_string(text), _variables(tree, environment), calls
    except TemplateSyntaxError as error:
        raise ValueError(
            f"the chat template of {source} cannot be read: line {error.lineno}: {error.message}."
        ) from None
