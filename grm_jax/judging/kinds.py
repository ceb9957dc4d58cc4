"""The kinds of judge: what each is made of, how it is asked and read, what it can be given.

A new kind is a row of this table, a class that judges, and a line of `open_judge` in sources.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["grm", "judge", "token-prob", "bt", "pair", "cloud"]
Writes = Literal["grm", "judge", "token-prob"]  # the kinds whose model is a language model
Learns = Literal["grm", "judge"]  # those of them that RFT and GRPO train


@dataclass(frozen=True)
class JudgeKind:
    """One kind of judge.

    Attributes:
        head: of its model: "lm" writes a judgment, "scalar" gives numbers.
        task: the template that it is asked with.
        odds: it is read by the probabilities of the number that it chose, see token_prob.py.
        certain: all its samples are alike, so that one is enough.
        endpoint: a model behind a server can be one.
        reference: it can be shown the reference answer.
    """

    head: Literal["lm", "scalar"]
    task: Literal["grm", "judge", "meta"] = "meta"
    odds: bool = False
    certain: bool = False
    endpoint: bool = False
    reference: bool = False


KINDS: dict[Kind, JudgeKind] = {
    # Pointwise: a score for each response.
    "grm": JudgeKind("lm", "grm", endpoint=True, reference=True),
    # LLM-as-a-Judge: the number of the best response; and the same, weighed by its probability.
    "judge": JudgeKind("lm", "judge", endpoint=True, reference=True),
    "token-prob": JudgeKind("lm", "judge", odds=True, endpoint=True, reference=True),
    # Bradley-Terry, a reward for each response; PairRM, a margin for each two of them.
    "bt": JudgeKind("scalar", certain=True),
    "pair": JudgeKind("scalar", certain=True),
    # A critique of each response, and then a reward.
    "cloud": JudgeKind("scalar"),
}
