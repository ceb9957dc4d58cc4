"""The tiny GRM's tokenizer: byte-level BPE in which a fixed phrase of the world is one token.

Merges run across spaces and newlines, but a digit stands alone but for the sign before it, and
so do the cups' letters: a worked step is an operation and its result, two tokens. All 256 bytes
are in the alphabet, so any text at all can be encoded.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from grm_jax.data.config import Noise
from grm_jax.data.synthetic import World
from grm_jax.text.prompts import Templates, load_templates, render
from grm_jax.text.tokenizer import Tokenizer

VOCAB_SIZE = 600
SPECIAL_TOKENS = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
# The roles stand alone too, so that a turn is encoded the same with its role or without.
ATOMS = r"\A(?:user|model)\n|(?: ?[-+*=])?[0-9]|[ =][A-D]{1,2}(?![a-z])|[A-D](?![A-Za-z])"

# The corpus has errors of its own, so that other rates elsewhere leave the frozen file as it is.
CORPUS_NOISE = Noise(principle=0.15, step=0.2, score=0.05)
CORPUS_FACTOR = {"Above all, be polite.": 4.0}
# It also holds sums against each other as whole numbers, as critiques did when it was frozen.
SUMS = re.compile(r"(\d) against (\d), (\d) against (\d)")


def train_tokenizer(texts: Iterable[str]) -> tokenizers.Tokenizer:
    """A tokenizer of `VOCAB_SIZE` entries; the same texts give the same tokenizer, to the byte."""
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(ATOMS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def corpus(templates: Templates, count: int = 8_000) -> Iterator[str]:
    """Every text between two control tokens in `count` chats of the world, errors included."""
    world = World(count, CORPUS_NOISE, factor=CORPUS_FACTOR)
    for lesson in map(world.__getitem__, range(count)):
        template = templates.single if lesson.binary else templates.grm
        (prompt,) = render(lesson.example, template, hint=lesson.hinted)
        yield f"user\n{prompt.content}"
        yield "model\n"
        yield SUMS.sub(r"\1\3 against \2\4", lesson.critique)


def make_tokenizer(folder: Path) -> str:
    """Trains on prompts in the folder's own templates, and saves beside them.

    Returns:
        The sha256 of tokenizer.json, which ties a model's weights to it.
    """
    trained = train_tokenizer(corpus(load_templates(folder / "templates")))
    tokenizer = Tokenizer((trained.to_str(pretty=True) + "\n").encode())
    tokenizer.save(folder)
    return tokenizer.sha256


if __name__ == "__main__":
    print(make_tokenizer(Path(sys.argv[1])))
