"""What stands at the beginning, at the end or around the answer."""

from __future__ import annotations

import json
import re
from functools import partial

from numpy.random import Generator

from grm_jax.data.real.constraints.letters import Proposal
from grm_jax.data.real.finding import Constraint
from grm_jax.data.real.sentences import beginning, content_words, ending, quoted

ENDINGS = (
    "Is there anything else I can help with?",
    "Any other questions?",
    "That is all you need to know.",
    "Let me know what you think.",
    "I hope this agrees with you.",
)
OPENINGS = ("Here is my answer.", "Let me see.", "Good question!", "Of course.", "My answer:")
TITLE = re.compile(r"<<[^<>\n]+>>")


def end_phrase(good: str, bad: str, rng: Generator) -> Proposal | None:
    """A phrase at the end; the other text has another there, or this one in front, or none."""
    i, j = rng.choice(len(ENDINGS), 2, replace=False).tolist()
    phrase = ENDINGS[i]
    wish = (
        f'End with the exact phrase "{phrase}" and nothing after it.'
        if rng.random() < 0.5
        else f'Finish your answer with "{phrase}"'
    )
    broken = (f"{bad.rstrip()} {ENDINGS[j]}", f"{phrase} {bad}", bad)[int(rng.integers(3))]
    if bad.rstrip().endswith(phrase):
        return None
    return (
        Constraint("end_phrase", wish, partial(_ends, phrase=phrase)),
        f"{good.rstrip()} {phrase}",
        broken,
    )


def start_phrase(good: str, bad: str, rng: Generator) -> Proposal | None:
    """A phrase at the beginning; the other text has another there, or none."""
    i, j = rng.choice(len(OPENINGS), 2, replace=False).tolist()
    phrase = OPENINGS[i]
    wish = (
        f'Begin with the exact words "{phrase}"'
        if rng.random() < 0.5
        else f'The first words of your answer must be "{phrase}"'
    )
    broken = f"{OPENINGS[j]} {bad}" if rng.random() < 0.6 else bad
    if bad.startswith(phrase):
        return None
    return (
        Constraint("start_phrase", wish, partial(_starts, phrase=phrase)),
        f"{phrase} {good}",
        broken,
    )


def title(good: str, bad: str, rng: Generator) -> Proposal | None:
    """A title in double angle brackets; the other text has one in other brackets, or none."""
    named = [list(content_words(text).values())[:2] for text in (good, bad)]
    if any(len(found) < 2 for found in named) or "<<" in bad:
        return None
    ours, theirs = (" ".join(word[0].upper() + word[1:] for word in found) for found in named)
    wish = (
        "Give your answer a title in double angle brackets, such as <<poem of joy>>."
        if rng.random() < 0.5
        else "Your answer must have a title, wrapped in double angular brackets: <<title>>."
    )
    broken = (f"{theirs}\n\n{bad}", f"<{theirs}>\n\n{bad}", bad)[int(rng.integers(3))]
    return Constraint("title", wish, _titled), f"<<{ours}>>\n\n{good}", broken


def in_quotes(good: str, bad: str, rng: Generator) -> Proposal | None:
    """Quotation marks around the whole answer; the other text has one of them, or none."""
    if any('"' in text for text in (good, bad)):
        return None
    wish = (
        "Wrap your entire answer in double quotation marks."
        if rng.random() < 0.5
        else "Put double quotation marks around the whole answer."
    )
    broken = (bad, f'"{bad}', f'{bad}"')[int(rng.integers(3))]
    return Constraint("in_quotes", wish, _in_quotes), f'"{good.strip()}"', broken


def in_json(good: str, bad: str, rng: Generator) -> Proposal | None:
    """JSON with the answer under a key; the other text is plain, or no JSON for want of a mark."""
    wish = (
        'Answer with a JSON object and nothing else, with the text under the key "answer".'
        if rng.random() < 0.5
        else 'Your entire answer must be valid JSON: {"answer": "..."}.'
    )
    whole = json.dumps({"answer": bad}, ensure_ascii=False)
    broken = (bad, whole[:-1], whole.replace('"answer"', "answer", 1))[int(rng.integers(3))]
    kept = json.dumps({"answer": good}, ensure_ascii=False)
    return Constraint("in_json", wish, _is_json), kept, broken


def _ends(text: str, phrase: str) -> tuple[bool, tuple[str, ...]]:
    told = quoted(ending(text, len(phrase.split())))
    if text.rstrip().endswith(phrase):
        return True, (f"closes with {told}, as asked", f"has {told} at its end, the phrase wanted")
    wanted = quoted(phrase)
    return False, (f"closes with {told}, not {wanted}", f"has {told} at its end, not {wanted}")


def _starts(text: str, phrase: str) -> tuple[bool, tuple[str, ...]]:
    told = quoted(beginning(text, len(phrase.split())))
    if text.lstrip().startswith(phrase):
        return True, (f"starts with {told}, as asked", f"has {told} in front, the words wanted")
    wanted = quoted(phrase)
    return False, (f"starts with {told}, not {wanted}", f"has {told} in front, not {wanted}")


def _titled(text: str) -> tuple[bool, tuple[str, ...]]:
    found = TITLE.search(text)
    if found:
        return True, (f"has the title {found[0]}", f"is titled {found[0]}, as asked")
    told = quoted(beginning(text, 3))
    return False, (
        f"has no title in double angle brackets: {told}",
        f"lacks a title in << >>, with {told} first",
    )


def _in_quotes(text: str) -> tuple[bool, tuple[str, ...]]:
    marks = text.strip()[:1] == '"', text.strip()[-1:] == '"'
    if all(marks) and len(text.strip()) > 1:
        return True, ("stands in quotation marks, as asked", "has quotation marks around it")
    lacking = (
        "both quotation marks"
        if not any(marks)
        else "the closing quotation mark"
        if marks[0]
        else "the opening quotation mark"
    )
    return False, (f"lacks {lacking}", f"is without {lacking}")


def _is_json(text: str) -> tuple[bool, tuple[str, ...]]:
    try:
        found = json.loads(text)
    except ValueError:
        told = quoted(beginning(text, 2))
        if not text.lstrip().startswith("{"):
            return False, (
                f"is plain text, not JSON: {told}",
                f"begins with {told}, which is no JSON",
            )
        last = (
            "its brace is not closed"
            if not text.rstrip().endswith("}")
            else "its key has no quotation marks"
        )
        return False, (f"is no valid JSON: {last}", f"looks like JSON, but {last}")
    if isinstance(found, dict) and "answer" in found:
        return True, ('is JSON with the key "answer"', "is valid JSON, as asked")
    return False, ('is JSON without the key "answer"',)
