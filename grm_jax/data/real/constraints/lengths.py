"""How many words, sentences or paragraphs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from numpy.random import Generator

from grm_jax.data.real.constraints.letters import Proposal
from grm_jax.data.real.finding import Constraint
from grm_jax.data.real.sentences import beginning, is_prose, quoted, sentences

MARGIN = 1.2  # by how much a text is over or under a limit that it breaks
MOST = 5  # sentences or paragraphs that are asked for
MANY = 8  # parts of a text that are told


def at_most(good: str, bad: str, rng: Generator) -> Proposal | None:
    """A limit on words that the first sentences of the good text keep."""
    if not is_prose(good):
        return None
    kept = _first(sentences(good), rng)
    limit = -(-max(_words(kept), 10) // 5) * 5
    if _words(bad) < MARGIN * limit:
        return None
    wish = (
        f"Use at most {limit} words."
        if rng.random() < 0.5
        else f"Answer in {limit} words or fewer."
    )
    return Constraint("at_most", wish, partial(_under, limit=limit)), kept, bad


def at_least(good: str, bad: str, rng: Generator) -> Proposal | None:
    """A number of words that the good text has, and the first sentences of the other have not."""
    if not is_prose(bad):
        return None
    short = _first(sentences(bad), rng)
    limit = _words(good) // 5 * 5
    if limit < 15 or _words(short) * MARGIN > limit:
        return None
    wish = (
        f"Use at least {limit} words."
        if rng.random() < 0.5
        else f"Answer in {limit} or more words."
    )
    return Constraint("at_least", wish, partial(_over, limit=limit)), good, short


def sentence_count(good: str, bad: str, rng: Generator) -> Proposal | None:
    """Exactly so many sentences; the other text has more or fewer."""
    if not (is_prose(good) and is_prose(bad)):
        return None
    drawn = _counts(len(sentences(good)), len(sentences(bad)), rng)
    if drawn is None:
        return None
    wanted, other = drawn
    wish = f"Answer in exactly {wanted} sentence{'s' * (wanted > 1)}."
    constraint = Constraint("sentences", wish, partial(_sentences, wanted=wanted))
    return constraint, " ".join(sentences(good)[:wanted]), " ".join(sentences(bad)[:other])


def paragraph_count(good: str, bad: str, rng: Generator) -> Proposal | None:
    """Exactly so many paragraphs; the other text has more or fewer."""
    if not (is_prose(good) and is_prose(bad)):
        return None
    drawn = _counts(len(sentences(good)), len(sentences(bad)), rng)
    if drawn is None:
        return None
    wanted, other = drawn
    wish = (
        f"Write exactly {wanted} paragraph{'s, with a blank line between any two' * (wanted > 1)}."
    )
    constraint = Constraint("paragraphs", wish, partial(_paragraphs, wanted=wanted))
    kept, broken = _in_paragraphs(sentences(good), wanted), _in_paragraphs(sentences(bad), other)
    return constraint, kept, broken


def bullet_count(good: str, bad: str, rng: Generator) -> Proposal | None:
    """Exactly so many bullet points; the other text has more or fewer, or none."""
    if not (is_prose(good) and is_prose(bad)):
        return None
    drawn = _counts(len(sentences(good)), len(sentences(bad)), rng)
    if drawn is None or drawn[0] < 2:
        return None
    wanted, other = drawn
    wish = (
        f"Answer with exactly {wanted} bullet points, each on a line that begins with a hyphen."
        if rng.random() < 0.5
        else f'Give your answer as {wanted} bullet points that begin with "- ".'
    )
    kept = _bullets(sentences(good)[:wanted])
    broken = bad if rng.random() < 0.25 else _bullets(sentences(bad)[:other])
    return Constraint("bullets", wish, partial(_points, wanted=wanted)), kept, broken


def _first(parts: Sequence[str], rng: Generator) -> str:
    """Some of the first sentences."""
    return " ".join(parts[: int(rng.integers(1, max(2, len(parts))))])


def _counts(most: int, most_other: int, rng: Generator) -> tuple[int, int] | None:
    """A number of parts, and another one near it."""
    wanted = int(rng.integers(1, min(MOST, most) + 1)) if most else 0
    others = [n for n in (wanted - 1, wanted + 1, wanted + 2) if 0 < n <= most_other]
    return (wanted, others[int(rng.integers(len(others)))]) if wanted and others else None


def _in_paragraphs(parts: Sequence[str], count: int) -> str:
    """The sentences in so many paragraphs of about the same number of sentences."""
    ends = [round(len(parts) * i / count) for i in range(count + 1)]
    return "\n\n".join(" ".join(parts[a:b]) for a, b in pairwise(ends))


def _bullets(parts: Sequence[str]) -> str:
    return "\n".join(f"- {part}" for part in parts)


def _words(text: str) -> int:
    return len(text.split())


def _under(text: str, limit: int) -> tuple[bool, tuple[str, ...]]:
    count = _words(text)
    if count <= limit:
        return True, (f"has {count} words, within the limit of {limit}", f"takes {count} words")
    return False, (
        f"has {count} words, over the limit of {limit}",
        f"takes {count} words, not {limit}",
    )


def _over(text: str, limit: int) -> tuple[bool, tuple[str, ...]]:
    count = _words(text)
    if count >= limit:
        return True, (f"has {count} words, at least {limit} as asked", f"takes {count} words")
    return False, (f"has {count} words, short of {limit}", f"takes only {count} words, not {limit}")


def _exact(parts: Sequence[str], wanted: int, what: str) -> tuple[bool, tuple[str, ...]]:
    """Parts of a text, which are told by their first words and counted."""
    count = len(parts)
    said = f"{count or 'no'} {what}{'s' * (count != 1)}"
    begun = ", ".join(quoted(beginning(part, 2)) for part in parts[:MANY])
    more = ", and so on" * (count > MANY)
    told = (
        (f"goes {begun}{more}: {said}", f"has {begun}{more}, {said}")
        if parts
        else (f"has {said}",) * 2
    )
    if count == wanted:
        return True, tuple(f"{one}, as asked" for one in told)
    return False, tuple(f"{one}, not {wanted}" for one in told)


def _sentences(text: str, wanted: int) -> tuple[bool, tuple[str, ...]]:
    return _exact(sentences(text), wanted, "sentence")


def _paragraphs(text: str, wanted: int) -> tuple[bool, tuple[str, ...]]:
    return _exact([part for part in text.split("\n\n") if part.strip()], wanted, "paragraph")


def _points(text: str, wanted: int) -> tuple[bool, tuple[str, ...]]:
    lines = [line.strip() for line in text.splitlines()]
    points = [line[2:] for line in lines if line.startswith(("- ", "* "))]
    return _exact(points, wanted, "bullet point")
