"""Rollouts: G judgments of each prompt by the current policy, with rule rewards, as arrays.

Letters: P prompts, G judgments of one prompt, B = P x G sequences, T tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from grm_jax.judging.judge import item_key, read_judgment, response_order
from grm_jax.judging.judgment import Judgment
from grm_jax.judging.reward import rule_reward
from grm_jax.sampling.sampler import Completion, Request, Sampler, bucket
from grm_jax.text.messages import Example
from grm_jax.text.prompts import Templates, render
from grm_jax.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Task:
    """A labelled Example in the order in which the policy is to see it, and its prompt's ids."""

    example: Example
    prompt: tuple[int, ...]
    template_name: str


@dataclass(frozen=True)
class Rollout:
    """One judgment by the policy: its tokens with their log-probabilities, parsed, rewarded."""

    task: Task
    judgment: Judgment
    tokens: np.ndarray
    logprobs: np.ndarray
    finished: bool
    reward: float


class RolloutBatch(NamedTuple):
    """What an update reads, [B, T] but for `advantage` [B].

    `targets[b, t]` is the token after `tokens[b, t]`, `mask` True where the policy wrote it;
    `positions` are -1 on padding. `sampled_logprob` comes from the sampler, `old_logprob` and
    `reference_logprob` from the trainer's own program under the policy before the first update
    and under the frozen reference.
    """

    tokens: Any
    targets: Any
    mask: Any
    positions: Any
    advantage: Any
    sampled_logprob: Any
    old_logprob: Any
    reference_logprob: Any


def make_task(example: Example, templates: Templates, tokenizer: Tokenizer, seed: int) -> Task:
    """The item with its responses in a random order (from the seed and its id)."""
    order = response_order(seed, item_key(example.id), 0, example.n)
    shown = example.permuted(order)
    name = "single" if example.n == 1 else "grm"
    turns = render(shown, getattr(templates, name))
    return Task(shown, tuple(tokenizer.encode_chat(turns)), name)


def roll_out(
    tasks: Sequence[Task],
    sampler: Sampler,
    templates: Templates,
    tokenizer: Tokenizer,
    group: int,
) -> list[Rollout]:
    """`group` judgments of each task, in the order of the tasks; a task's share one prefill."""
    requests = [
        Request(task.prompt, item_key(f"{i}/{task.example.id}"), tuple(range(group)), i)
        for i, task in enumerate(tasks)
    ]
    found: dict[tuple[int, int], Completion] = {
        (completion.request.tag, completion.sample): completion for completion in sampler(requests)
    }
    return [
        _read(task, found[i, sample], templates, tokenizer)
        for i, task in enumerate(tasks)
        for sample in range(group)
    ]


def _read(
    task: Task, completion: Completion, templates: Templates, tokenizer: Tokenizer
) -> Rollout:
    stops = set(tokenizer.stop_ids)
    text = tokenizer.decode([int(t) for t in completion.tokens if t not in stops])
    judgment = read_judgment(
        text,
        getattr(templates, task.template_name),
        sample=completion.sample,
        order=tuple(range(task.example.n)),
        tokens=len(completion.tokens),
        logprob=float(completion.logprobs.sum()),
        cut_off=not completion.finished,
    )
    assert task.example.label is not None
    return Rollout(
        task=task,
        judgment=judgment,
        tokens=completion.tokens,
        logprobs=completion.logprobs,
        finished=completion.finished,
        reward=rule_reward(judgment.scores, task.example.label),
    )


def to_arrays(rollouts: Sequence[Rollout], advantage: np.ndarray, longest: int) -> RolloutBatch:
    """Right-padded rows, [B, T] with T one of few lengths; log-probabilities still zero.

    longest: the number of positions that the model has.
    """
    lengths = [len(r.task.prompt) + len(r.tokens) - 1 for r in rollouts]
    shape = (len(rollouts), bucket(max(lengths), longest))
    tokens, targets = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    mask, positions = np.zeros(shape, bool), np.full(shape, -1, np.int32)
    sampled = np.zeros(shape, np.float32)
    for row, (rollout, length) in enumerate(zip(rollouts, lengths, strict=True)):
        ids = np.concatenate([rollout.task.prompt, rollout.tokens])
        first = len(rollout.task.prompt) - 1  # it predicts the first token that the policy wrote
        tokens[row, :length], targets[row, :length] = ids[:-1], ids[1:]
        positions[row, :length] = np.arange(length)
        mask[row, first:length] = True
        sampled[row, first:length] = rollout.logprobs
    zeros = np.zeros(shape, np.float32)
    return RolloutBatch(
        tokens, targets, mask, positions, advantage.astype(np.float32), sampled, zeros, zeros
    )


def rollout_metrics(rollouts: Sequence[Rollout], group: int) -> dict[str, float]:
    """What TRL logs of a batch of completions, under its names, and the share without scores."""
    rewards = np.array([r.reward for r in rollouts]).reshape(-1, group)
    lengths = np.array([len(r.tokens) for r in rollouts])
    # A group of one has no spread; TRL's deviation is the sample's.
    spread = rewards.std(axis=1, ddof=1) if group > 1 else np.zeros(len(rewards))
    reasons = Counter(r.judgment.reason for r in rollouts if r.judgment.reason is not None)
    return {
        "reward": float(rewards.mean()),
        "reward_std": float(spread.mean()),
        "frac_reward_zero_std": float((spread == 0).mean()),
        "completions/mean_length": float(lengths.mean()),
        "completions/min_length": float(lengths.min()),
        "completions/max_length": float(lengths.max()),
        "completions/clipped_ratio": float(np.mean([not r.finished for r in rollouts])),
        "completions/invalid_ratio": reasons.total() / len(rollouts),
    }
