r"""The final answer of a worked solution, and the rule by which two of them are the same.

A solution gives its answer in its last \boxed{}, as MATH's do, or in its last line after `####`
(GSM8K) or `A:`. Numbers, fractions, sets, intervals, units and the like are compared by
math-verify.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

# For one comparison, so long that only what has no end meets it.
SECONDS = 30
BOX = re.compile(r"\\(?:boxed|fbox)\s*")
LAST_LINE = re.compile(
    r"(?:####|a:|answer:|(?:the )?(?:final )?answer is:?)\s*(\S.*?)\.?", re.IGNORECASE
)


def final_answer(text: str) -> str | None:
    """The answer that the text gives, or None where it gives none or is cut off in it."""
    boxes = list(BOX.finditer(text))
    if boxes:
        return _boxed(text[boxes[-1].end() :])
    lines = text.strip().splitlines()
    found = LAST_LINE.fullmatch(lines[-1].strip()) if lines else None
    return found[1] if found else None


def _boxed(rest: str) -> str | None:
    r"""What stands in the braces at the start of the text; `\boxed 5` has none and ends at a $."""
    if not rest.startswith("{"):
        return re.split(r"[$\s]", rest, maxsplit=1)[0] or None
    depth = 0
    for match in re.finditer(r"\\.|[{}]", rest, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if not depth:
            return rest[1 : match.start()].strip() or None
    return None


def same_answer(gold: str, answer: str) -> bool | None:
    """Whether two final answers are the same; None where they cannot be compared.

    Raises:
        ValueError: math-verify is not installed, or this is not the main thread.
    """
    if gold.split() == answer.split():
        return True
    try:
        from math_verify import verify  # slow to import
        from math_verify.errors import TimeoutException
    except ImportError:
        raise ValueError(
            "answers are compared by math-verify: pip install 'grm-jax[math]'."
        ) from None
    left, right = _parsed(gold), _parsed(answer)
    if not left or not right:
        return None
    try:
        return verify(left, right, timeout_seconds=SECONDS, raise_on_error=True)
    except (TimeoutException, ArithmeticError, TypeError, AttributeError, NotImplementedError):
        return None  # a tower of powers, say


@lru_cache(maxsize=1024)
def _parsed(answer: str) -> Any:
    from math_verify import parse

    return parse(rf"\boxed{{{answer}}}", parsing_timeout=SECONDS)
