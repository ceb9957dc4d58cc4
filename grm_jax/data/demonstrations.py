"""Demonstrations (a prompt and what the model is to write) as token rows for the pipeline."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from grm_jax.data.config import ANSWERS, CHOICES, COMPARISONS, CRITIQUES, WORLD, SourceConfig
from grm_jax.data.pipeline import RandomAccess, TokenRow
from grm_jax.data.responses import WORDS, compared
from grm_jax.data.synthetic import World, demonstrate
from grm_jax.places import at_hand
from grm_jax.text.messages import Message, as_messages, fold_system
from grm_jax.text.prompts import Templates, load_templates, render
from grm_jax.text.tokenizer import Tokenizer

PAIRS = 4  # comparisons in a row
ROW_SHAPES = (
    'give {"prompt": text or messages, "completion": text} or {"messages": [...]} '
    "whose last turn is the assistant's"
)


def open_source(
    config: SourceConfig, tokenizer: Tokenizer, templates: Templates, seed: int
) -> RandomAccess[TokenRow]:
    """The rows of a source; `templates` and `seed` make the world's prompts and items.

    Raises:
        FileNotFoundError, ValueError: no such file, or lines that are no demonstrations.
    """
    if config.source in (WORLD, CHOICES):
        world = World(
            noise=config.noise,
            seed=seed,
            principles=config.principles,
            reference=config.reference,
            choose=config.source == CHOICES,
        )
        own = load_templates(config.templates) if config.templates else templates
        return WorldRows(world, tokenizer, own)
    if config.source == CRITIQUES:
        return CritiqueRows(World(noise=config.noise, seed=seed), tokenizer, templates)
    if config.source == ANSWERS:
        return AnswerRows(World(seed=seed), tokenizer)
    if config.source == COMPARISONS:
        return ComparisonRows(World(seed=seed), tokenizer)
    return JsonlRows(at_hand(config.source), tokenizer)


def encode(tokenizer: Tokenizer, prompt: tuple[Message, ...], completion: str) -> TokenRow:
    """The chat with the completion as the model's turn; only that is learned."""
    head = tokenizer.encode_chat(prompt)
    ids = np.array([*head, *tokenizer.encode_completion(completion)], np.int32)
    return TokenRow(ids, np.arange(len(ids)) >= len(head))


class WorldRows:
    """Lessons of the synthetic world, made on demand."""

    def __init__(self, world: World, tokenizer: Tokenizer, templates: Templates):
        self.world, self.tokenizer, self.templates = world, tokenizer, templates

    def __len__(self) -> int:
        return len(self.world)

    def __getitem__(self, index: int) -> TokenRow:
        lesson = self.world[index]
        several = lesson.example.n > 1
        kind = "judge" if self.world.choose and several else "grm"
        shown = {"hint": lesson.hinted, "reference": lesson.reference}
        prompt = self.templates.ask(kind, lesson.example, training=lesson.binary, **shown)
        return encode(self.tokenizer, tuple(prompt), lesson.critique)


class CritiqueRows:
    """One of an item's responses, and its critique up to where the scores would follow."""

    def __init__(self, world: World, tokenizer: Tokenizer, templates: Templates):
        self.world, self.tokenizer, self.templates = world, tokenizer, templates

    def __len__(self) -> int:
        return len(self.world)

    def __getitem__(self, index: int) -> TokenRow:
        world, item = self.world, self.world.item(index)
        rng = world.stream(world.start + index, "critique")
        one = item.responses[int(rng.integers(len(item.responses)))]
        single = replace(item, responses=(one,))
        critique, _ = demonstrate(single, world.noise, rng, factor=world.factor).split("\nScores:")
        prompt = render(single.example, self.templates.meta)
        return encode(self.tokenizer, tuple(prompt), critique)


class AnswerRows:
    """The world's questions, answered with their working: instructions without any judging."""

    def __init__(self, world: World, tokenizer: Tokenizer):
        self.world, self.tokenizer = world, tokenizer

    def __len__(self) -> int:
        return len(self.world)

    def __getitem__(self, index: int) -> TokenRow:
        question = self.world.item(index).question
        steps, answer = question.work()
        return encode(self.tokenizer, (Message("user", question.text),), f"{steps} so {answer}.")


class ComparisonRows:
    """Answers to the world's questions compared with the right ones, as in critiques.

    To see whether two answers agree is what a small model is slowest to learn from critiques,
    where it takes a few tokens among many; and the whole verdict depends on it.
    """

    def __init__(self, world: World, tokenizer: Tokenizer):
        self.world, self.tokenizer = world, tokenizer

    def __len__(self) -> int:
        return len(self.world) // PAIRS

    def __getitem__(self, index: int) -> TokenRow:
        rng = self.world.stream(index, "comparison")
        shown, learned = [], []
        for place in range(PAIRS):
            question = self.world.item(PAIRS * index + place).question
            _, right = question.work()
            same = rng.random() < 0.5
            answer = right if same else question.work(int(rng.integers(question.slips)))[1]
            shown.append(f"[{place + 1}] {compared(answer, right)}")
            learned.append(f"{shown[-1]}: {WORDS['accuracy'][same]}")
        return encode(self.tokenizer, (Message("user", "\n".join(shown)),), "; ".join(learned))


class JsonlRows:
    """The demonstrations of a JSONL file, read by line when asked for; every line is checked first.

    Raises:
        FileNotFoundError: no such file.
        ValueError: lines that are no demonstrations; the first few are named.
    """

    def __init__(self, path: Path, tokenizer: Tokenizer):
        if not path.is_file():
            raise FileNotFoundError(
                f"there is no file of demonstrations at {path}: give a JSONL file, "
                f"{WORLD!r}, {CHOICES!r}, {CRITIQUES!r}, {ANSWERS!r} or {COMPARISONS!r}."
            )
        self.path, self.tokenizer = path, tokenizer
        self.lines = np.array(list(self._check_lines()), np.int64)
        if not len(self.lines):
            raise ValueError(f"{path} is empty: {ROW_SHAPES}.")
        # Mapped, because threads read it, and a file has only one position.
        self.bytes = np.memmap(path, np.uint8, "r")

    def _check_lines(self) -> Iterator[tuple[int, int]]:
        """(start, size in bytes) of each line that holds a row."""
        start, faults = 0, []
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    try:
                        read_demonstration(json.loads(line))
                    except ValueError as error:
                        faults.append(f"{self.path}:{number}: {error}")
                    yield start, len(line)
                start += len(line)
        if faults:
            shown = "\n  ".join(faults[:5])
            more = f"\n  and {len(faults) - 5} more" if len(faults) > 5 else ""
            raise ValueError(f"{len(faults)} lines are no demonstrations.\n  {shown}{more}")

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> TokenRow:
        start, size = self.lines[index]
        line = self.bytes[start : start + size].tobytes()
        return encode(self.tokenizer, *read_demonstration(json.loads(line)))


def read_demonstration(row: Any) -> tuple[tuple[Message, ...], str]:
    """The turns before, and the text to be learned, of a row of either shape.

    Raises:
        ValueError: a sentence on what is wrong with the row.
    """
    if not isinstance(row, Mapping):
        raise ValueError(f"the row is no object; {ROW_SHAPES}.")
    if "messages" in row:
        turns = as_messages(row["messages"])
    elif "prompt" in row and "completion" in row:
        completion = row["completion"]
        if isinstance(completion, str):
            completion = [Message("assistant", completion)]
        turns = (*as_messages(row["prompt"]), *as_messages(completion))
    else:
        raise ValueError(f"the row has the columns {', '.join(map(str, row))}; {ROW_SHAPES}.")
    # Where the family has a place for a system turn it stays a turn of its own.
    for number, turn in enumerate(fold_system(turns)):
        if turn.role != ("user", "assistant")[number % 2]:
            raise ValueError(f"turn {number + 1} is the {turn.role}'s; the two take turns.")
    if not turns or turns[-1].role != "assistant":
        raise ValueError(f"there is no last turn of the assistant; {ROW_SHAPES}.")
    if not turns[-1].content.strip():
        raise ValueError("the completion is empty: there is nothing to learn.")
    return turns[:-1], turns[-1].content
