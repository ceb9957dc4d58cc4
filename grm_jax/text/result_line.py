r"""Where a judgment states its result: the box of the judge's own last line, and of no other.

A response may hold `\boxed{10, 1}`, and a critique may quote it. What counts is, in this order:

1. the last box, where nothing but marks follows it, and it stands under or beside the label of the
   result (`Scores:`), on a line of its own, or at the end of a sentence that states a result;
2. the box beside or under the last label that begins a line, whatever the judge adds to it.

A template states its label in its answer format (`Template.label`). For one that states none,
`Scores:` and `Choice:` are labels, and any sentence may state the result. An answer that was cut
off states its result only beside a label, and only where it ends with it.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

BOX = re.compile(r"\\boxed\s*\{")
PARTS = re.compile(rf"{BOX.pattern}|[{{}}\n]")
WORD = re.compile(r"[^\W_]")
# `</answer>`, `<end_of_turn>` and the like.
TAG = re.compile(r"<[^<>\n]{1,40}>")
# What may stand between a quotation mark and the box: emphasis, a dollar sign.
QUOTE = re.compile(r"['„‘«»「『][^\w\n]{0,4}$")
SECTION = re.compile(r"^[#>*_\- \t]*(?:specific criteria|analysis)[*_ \t]*:", re.I | re.M)
SENTENCE = re.compile(r"[.!?]\s")
# The same, or the end of an element such as </eval>.
PART = re.compile(rf"{SENTENCE.pattern}|</[^<>\n]{{1,40}}>")
# "The overall scores are", "So", "Final answer:".
STATES = re.compile(
    r"scor|\brat(?:e|ed|ing)|choice|\bchoose|\bbest\b|\bbetter\b|\boverall\b|verdict"
    r"|^\W*(?:so|thus|hence|therefore|finally|(?:the |my )?(?:final )?answer(?: is)?)\W*$",
    re.I,
)
REPORTS = re.compile(
    r"\b(?:says?|said|claims?|writes?|wrote|states?|stated|contains?|quotes?|prints?"
    r"|responses? \d+['’]s)\b",
    re.I,
)


@dataclass(frozen=True)
class Box:
    """A box in a text: where its line begins, and it, and its content; and where that ends, or
    None."""

    line: int
    start: int
    inside: int
    end: int | None


@dataclass(frozen=True)
class Result:
    """What was found: the box that states the result, if any; whether there is any box at all; and
    where the result begins in the text, which ends the critique."""

    box: Box | None
    boxes: bool
    begins: int


def find_result(text: str, label: str = "", *, cut_off: bool = False) -> Result:
    """The result that an answer states.

    label: the template's, without its colon. cut_off: the answer did not end by itself.
    """
    boxes = _boxes(text)
    labels = list(_label(label).finditer(text))
    if not boxes:
        return Result(None, False, labels[-1].start() if labels else len(text))
    box = _last(text, boxes[-1], labels, bool(label), cut_off)
    if box is None and labels and not cut_off:
        box = _labelled(text, boxes, labels[-1])
    found = _label_before(labels, box or boxes[-1])
    if box and not (found and box.start < _section_end(text, found)):
        return Result(box, True, box.start)
    return Result(box, True, found.start() if found else len(text))


def states_result(text: str, box: Box) -> bool:
    """Whether the text ends with this box, where boxes have no label: it begins its line, follows a
    finished sentence, or ends one that states a result; and is not quoted."""
    lead = text[box.line : box.start]
    if not _ends(text, box) or _quoted(text, box.line, box) or lead.lstrip().startswith(">"):
        return False
    sentence = PART.split(lead)[-1]
    if not WORD.search(sentence):
        return True
    return bool(STATES.search(sentence)) and not REPORTS.search(sentence)


def _last(
    text: str, box: Box, labels: list[re.Match[str]], declared: bool, cut_off: bool
) -> Box | None:
    """The last box, if it ends the text and states the result."""
    label = _label_before(labels, box)
    lead = max(box.line, label.end()) if label else box.line
    if not _ends(text, box) or _quoted(text, lead, box):
        return None
    if label and box.start < _section_end(text, label):
        beside = label.end() >= box.line or not WORD.search(text, label.end(), box.start)
        return box if beside or not cut_off else None
    if cut_off:
        return None
    sentence = SENTENCE.split(text[box.line : box.start])[-1]
    if not WORD.search(sentence):
        return box
    stated = not declared or STATES.search(sentence)
    return box if stated and not REPORTS.search(sentence) else None


def _labelled(text: str, boxes: list[Box], label: re.Match[str]) -> Box | None:
    """The last box on the line of the label, or else the last on a line of its own below it."""
    end = _section_end(text, label)
    after = [box for box in boxes if label.end() <= box.start < end]
    beside = [
        box for box in after if box.line <= label.start() and not _quoted(text, label.end(), box)
    ]
    below = [box for box in after if not WORD.search(text, box.line, box.start)]
    return (beside or below or [None])[-1]


def _boxes(text: str) -> list[Box]:
    """All boxes in order of their beginnings, each with the brace that closes it."""
    line, ends = 0, dict[int, int]()
    starts: list[tuple[int, re.Match[str]]] = []
    opened: list[int | None] = []
    for part in PARTS.finditer(text):
        if part[0] == "\n":
            line = part.end()
        elif part[0] == "{":
            opened.append(None)
        elif part[0] != "}":
            opened.append(len(starts))
            starts.append((line, part))
        elif opened and (index := opened.pop()) is not None:
            ends[index] = part.start()
    return [Box(at, box.start(), box.end(), ends.get(i)) for i, (at, box) in enumerate(starts)]


@lru_cache
def _label(label: str) -> re.Pattern[str]:
    """The label at the start of a line, in markdown or not: with a colon, as a heading, or as in
    "So the final scores are"."""
    names = r"[ \t]+".join(map(re.escape, label.removesuffix("s").split()))
    names = names + "s?" if label else "scores?|choice"
    return re.compile(
        r"^[#*_\- \t]*(?:\d[.)][*_ \t]*)?"
        r"(?:(?:so|thus|hence|therefore|finally|the|my|final|overall|total),?[ \t]+)*"
        rf"(?:{names})(?:[*_ \t]*[:：][*_]*|[ \t]+(?:is|are)\b|[*_ \t]*$)",
        re.I | re.M,
    )


def _label_before(labels: list[re.Match[str]], box: Box) -> re.Match[str] | None:
    return next((label for label in reversed(labels) if label.end() <= box.start), None)


def _section_end(text: str, label: re.Match[str]) -> int:
    """Where the next section after the label begins, or the text ends."""
    section = SECTION.search(text, label.end())
    return section.start() if section else len(text)


def _quoted(text: str, lead: int, box: Box) -> bool:
    """Whether the box is quoted, in a line whose words begin at `lead`."""
    near = text[max(lead, box.start - 1000) : box.start]
    opened = near.count('"') % 2 or near.count("“") > near.count("”") or QUOTE.search(near)
    return bool(opened and WORD.search(text, lead, box.start))


def _ends(text: str, box: Box) -> bool:
    """Whether nothing but marks follows the box; nothing does where it is not closed."""
    return box.end is None or not WORD.search(TAG.sub("", text[box.end :]))
