"""What all loops share: their questions, the judge, and what they hand back to be compared."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

QUESTIONS = ("What is 61+21?", "What is 39+48?", "What is 12+30?", "What is 55+13?")
GROUP, STEPS = 4, 2
# The same for `JudgeReward` here and for `grm judge` afterwards.
K, SLOTS = 4, 16
METRICS = ("score", "invalid", "margin", "tokens", "failed")
PAD, EOS, BOS, FIRST = 0, 1, 2, 3
CHARACTERS = "".join(map(chr, range(32, 127)))
DIGITS = [FIRST + CHARACTERS.index(digit) for digit in "0123456789"]
VOCABULARY = FIRST + len(CHARACTERS)


def judge_reward(**settings: Any) -> Any:
    """The reward of every loop."""
    from grm_jax import Judge
    from grm_jax.rewards import JudgeReward

    return JudgeReward(Judge.load("tiny", slots=SLOTS), k=K, group=GROUP, **settings)


def tokenizer(folder: str | None = None) -> Any:
    """A fast tokenizer of transformers whose tokens are characters; saved, where a folder is
    given."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": PAD, "<eos>": EOS, "<bos>": BOS}
    words |= {character: FIRST + i for i, character in enumerate(CHARACTERS)}
    made = Tokenizer(models.WordLevel(words, unk_token="<bos>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    made.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>"
    )
    fast.chat_template = "{% for turn in messages %}{{ turn['content'] }}{% endfor %}"
    if folder is not None:
        fast.save_pretrained(folder)
    return fast


def hand_over(
    name: str,
    prompts: Sequence[str],
    responses: Sequence[str],
    logged: Sequence[float],
    group: int,
    *,
    ordered: bool = False,
) -> None:
    """Writes the groups as rows, and what the trainer's log says they got, into the folder that
    the command line names; nan, no reward, becomes null.

    ordered: those who came one by one were judged in the order of their texts.
    """
    folder = Path(sys.argv[1])
    rows, rewards = [], []
    for start in range(0, len(prompts), group):
        (prompt,) = set(prompts[start : start + group])
        members = list(zip(responses, logged, strict=True))[start : start + group]
        if ordered:
            members.sort(key=lambda member: member[0])
        rows.append({"prompt": prompt, "responses": [response for response, _ in members]})
        rewards.append([None if r != r else float(r) for _, r in members])
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / f"{name}.json").write_text(json.dumps(rewards))
