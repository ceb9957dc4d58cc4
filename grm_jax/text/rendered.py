"""A policy's rendered conversation, back into turns.

Trainers send what their policy saw: text with the turn tokens of its chat template. A judge reads
the turns, and its own tokens.
"""

from __future__ import annotations

import re

from grm_jax.text.messages import ROLES, Message

# Where a turn begins, and whose it is.
_OPEN = re.compile(
    r"<\|im_start\|>(?P<chatml>\w+)\n"  # Qwen and many others
    r"|<\|start_header_id\|>(?P<llama>\w+)<\|end_header_id\|>\n\n"
    r"|<start_of_turn>(?P<gemma>\w+)\n"
    r"|<\|(?P<phi>system|user|assistant)\|>\n?"  # Phi, Zephyr, GLM
    r"|<｜(?P<deepseek>User|Assistant)｜>"
    r"|(?P<mistral>\[/?INST\]) ?"
)
_ENDS = (
    "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<end_of_turn>", "<eos>",
    "<|end|>", "</s>", "<｜end▁of▁sentence｜>", "<pad>", "<|pad|>", "[PAD]",
)  # fmt: skip
_STARTS = ("<bos>", "<s>", "<|begin_of_text|>", "<｜begin▁of▁sentence｜>", "[gMASK]<sop>", "<pad>")
_START = re.compile(rf"(?:{'|'.join(map(re.escape, _STARTS))}|\s)*")


def split_response(query: str, prompt: str) -> tuple[tuple[Message, ...], str]:
    """The turns and the response in a rendered conversation that begins with a rendered prompt.

    All that follows the prompt is the response, whatever turn tokens are in it, without the tokens
    that end it.

    Raises:
        ValueError: the prompt is not the beginning of it.
    """
    bare = _bare(prompt)
    query = _START.sub("", query, count=1)
    if not query.startswith(bare):
        raise ValueError(
            "the query does not begin with its prompt: send the prompt as it was rendered, and the "
            "query as that and what the policy wrote."
        )
    turns, begun = split_turns(bare)
    return turns, without_end((begun or "") + query[len(bare) :])


def split_conversation(text: str) -> tuple[tuple[Message, ...], str]:
    """The turns of a rendered conversation, and the response that is its last turn.

    Raises:
        ValueError: it does not end with the assistant's turn.
    """
    turns, begun = split_turns(text)
    if begun is None:
        raise ValueError(
            "the input has no last turn of the assistant's: send a conversation with the turn "
            "tokens of its chat template, such as <|im_start|>assistant."
        )
    return turns, without_end(begun)


def is_rendered(text: str) -> bool:
    """Whether there are turn tokens in it."""
    return _OPEN.search(text) is not None


def split_turns(text: str) -> tuple[tuple[Message, ...], str | None]:
    """The turns of a rendered conversation up to its last question, and what there is of the
    answer, if its turn has begun. Text without turn tokens is one question."""
    text = _bare(text)
    marks = list(_OPEN.finditer(text))
    if not marks:
        return (Message("user", without_end(text).strip()),), None
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    before = text[: marks[0].start()].strip()
    turns = [("system", before)] if before else []
    turns += [(_role(mark), text[mark.end() : end]) for mark, end in zip(marks, ends, strict=True)]
    begun = turns.pop()[1] if turns[-1][0] == "assistant" else None
    return tuple(Message(role, without_end(said).strip()) for role, said in turns), begun


def without_end(text: str) -> str:
    """What a turn says, without the tokens that end it; other blanks are its own."""
    end = found = len(text)
    while found is not None:
        end = last = found
        while last and text[last - 1].isspace():
            last -= 1
        ends = (last - len(token) for token in _ENDS if text.endswith(token, 0, last))
        found = next(ends, None)
    return text[:end]


def _bare(text: str) -> str:
    return _START.sub("", text, count=1)


def _role(mark: re.Match[str]) -> str:
    """Who speaks.

    Raises:
        ValueError: nobody that a judge is shown, such as a tool.
    """
    name = next(value for value in mark.groupdict().values() if value is not None)
    name = {"[INST]": "user", "[/INST]": "assistant"}.get(name, name).lower()
    if name not in ROLES:
        raise ValueError(f"a turn has the role {name[:40]!r}: only {', '.join(ROLES)} are read.")
    return ROLES[name]
