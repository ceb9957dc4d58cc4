"""The prompt of a row: its column, and what other columns put before the question."""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from grm_jax.data.columns import Row, as_text, empty
from grm_jax.text.messages import Message, as_messages

PROMPTS = ("prompt", "query", "instruction", "question", "input", "conversation_input",
           "conversations", "messages")  # fmt: skip
# Columns that belong before the prompt, and how they are shown there.
SYSTEM = ("system", "system_prompt")
HISTORY = ("history",)
CONTEXT = ("context",)
PLACES: dict[str, str] = {
    **dict.fromkeys(SYSTEM, "as a system turn"),
    **dict.fromkeys(HISTORY, "as earlier turns"),
    **dict.fromkeys(CONTEXT, "before the first user turn"),
}

# hh-rlhf and what came after it: a whole dialogue in one string.
SPEAKER = re.compile(r"(?:^|\n\n)[ \t\n]{0,8}(Human|Assistant):[ ]?")
SPEAKERS = {"Human": "user", "Assistant": "assistant"}


def prompt_column(row: Mapping[str, Any]) -> str:
    """The names of the columns that the prompt is read from."""
    if row.get("instruction") and row.get("input"):
        return "instruction + input"
    return next((name for name in PROMPTS if row.get(name) is not None), "")


def take_prompt(row: Row) -> Any:
    """The prompt, text or turns, taken out of the row."""
    column = prompt_column(row)
    if not column:
        raise ValueError(
            f"the row has no prompt: one of the columns {', '.join(PROMPTS)} must hold it"
        )
    parts = [row.pop(name) for name in column.split(" + ")]
    return parts[0] if len(parts) == 1 else "\n\n".join(as_text(part) or "" for part in parts)


def dialogue(value: Any) -> list[dict[str, str]]:
    """The turns of a dialogue in one string, whose paragraphs begin with "Human:" or "Assistant:".

    Empty if it is anything else.
    """
    if not isinstance(value, str) or not value.lstrip().startswith("Human:"):
        return []
    _, *rest = SPEAKER.split(value)
    return [
        {"role": SPEAKERS[speaker], "content": text.strip()}
        for speaker, text in zip(rest[::2], rest[1::2], strict=True)
    ]


def with_what_comes_before(prompt: Any, row: Row) -> tuple[Message, ...]:
    """The prompt's turns and, before them, what the columns of PLACES hold, taken out of the row.

    What the prompt shows already is not repeated; what has no known form stays in the row.
    """
    turns = as_messages(prompt)
    # A dialogue in one string, the last turn of which is the one to write.
    if (found := as_messages(dialogue(prompt))) and found[-1] == Message("assistant", ""):
        turns = found[:-1]
    if not any(turn.content.strip() for turn in turns if turn.role != "system"):
        return turns  # an empty prompt is refused, whatever comes before it
    systems = [text for name in SYSTEM if (text := _taken(row, name, _text))]
    earlier = tuple(turn for name in (*HISTORY, *CONTEXT) for turn in _taken(row, name, _turns))
    contexts = [text for name in CONTEXT if (text := _taken(row, name, _texts))]
    if not systems and not earlier and not contexts:
        return turns
    own = tuple(turn for turn in turns[:1] if turn.role == "system")
    turns = turns[len(own) :]
    if earlier != turns[: len(earlier)]:
        turns = (*earlier, *turns)
    lines = "\n".join(["", *(turn.content for turn in (*own, *turns)), ""])
    systems = [text for text in systems if f"\n{text.strip()}\n" not in lines]
    contexts = [text for text in contexts if f"\n{text.strip()}\n" not in lines]
    if contexts:
        place = [turn.role for turn in turns].index("user")
        joined = "\n\n".join((*contexts, turns[place].content))
        turns = (*turns[:place], Message("user", joined), *turns[place + 1 :])
    system = "\n\n".join((*systems, *(turn.content for turn in own)))
    # A system turn may only come before a user turn.
    first = next(iter(turns), None)
    role = "system" if first and first.role == "user" else "user"
    return (Message(role, system), *turns) if system else turns


Read = TypeVar("Read", str, tuple[Message, ...])


def _taken(row: Row, name: str, read: Callable[[Any], Read]) -> Read:
    """The column as `read` returns it, removed from the row; if it cannot be read, it stays."""
    found = read(None if empty(row.get(name)) else row[name])
    if found:
        del row[name]
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> str:
    """Text, or a list of texts, such as retrieved passages."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "\n\n".join(value)
    return _text(value)


def _turns(value: Any) -> tuple[Message, ...]:
    """Turns of user and assistant: messages, or pairs [what the user said, what was answered]."""
    if not isinstance(value, list) or not value:
        return ()
    if all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in value):
        roles = ("user", "assistant")
        value = [
            {"role": role, "content": text}
            for pair in value
            for role, text in zip(roles, pair, strict=True)
        ]
    try:
        turns = as_messages(value)
    except ValueError:
        return ()
    return () if any(turn.role == "system" for turn in turns) else turns
