"""Rollouts: G judgments of each prompt by the current policy, with rewards, as arrays.

Letters: P prompts of S tokens, G judgments of one prompt, T tokens of a judgment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from grm_jax.bucket import bucket
from grm_jax.judging.asking import Asking, read_completion
from grm_jax.judging.judgment import Judgment
from grm_jax.judging.kinds import Learns
from grm_jax.judging.pairs import take
from grm_jax.judging.reward import Reward, rule_rewards
from grm_jax.metric_names import INVALID_RATIO, MEAN_LENGTH, REWARD, ZERO_STD
from grm_jax.processes import say
from grm_jax.randomness import item_key, pair_stream, response_order
from grm_jax.sampling.request import Completion, Request
from grm_jax.sampling.sampler import Sampler
from grm_jax.text.messages import Example
from grm_jax.text.prompts import Template, Templates
from grm_jax.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Task:
    """A labelled Example in the order in which the policy is to see it, and its prompt's ids."""

    example: Example
    prompt: tuple[int, ...]
    template: Template


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
    """What an update reads: `prompts` [P, S], `advantage` [P, G], the rest [P, G, T].

    `tokens` are those that the policy wrote; positions are -1 on padding, which prompts have on the
    left, so that each is one step from its judgments, and judgments on the right.
    `sampled_logprob` comes from the sampler, `old_logprob` and `reference_logprob` from the
    trainer's own program under the policy before the first update and under the frozen reference.
    """

    prompts: Any
    prompt_positions: Any
    tokens: Any
    positions: Any
    advantage: Any
    sampled_logprob: Any
    old_logprob: Any
    reference_logprob: Any

    @property
    def mask(self) -> Any:
        """True where the policy wrote a token."""
        return self.positions >= 0


def judgeable(items: Sequence[Example], kind: Learns) -> list[Example]:
    """The items that can be judged in this way: a judge that chooses needs two responses."""
    if kind == "grm":
        return list(items)
    several = [item for item in items if item.n > 1]
    if not several:
        raise ValueError(
            f"all of {len(items)} items have one response: there is nothing to choose."
        )
    if len(several) < len(items):
        say(f"{len(items) - len(several)} of {len(items)} items have one response and are left.")
    return several


def as_pair(item: Example, seed: int) -> Example:
    """The best response and another one, drawn by the seed and what the item shows."""
    if item.n == 2 or item.label is None:
        return item
    others = [i for i in range(item.n) if i != item.label]
    rng = pair_stream(seed, item_key(item.digest))
    return take(item, (item.label, others[rng.integers(len(others))]))


def make_task(
    example: Example,
    templates: Templates,
    tokenizer: Tokenizer,
    seed: int,
    kind: Learns = "grm",
) -> Task:
    """The item with its responses in a random order (from the seed and what it shows)."""
    order = response_order(seed, item_key(example.digest), 0, example.n)
    asking = Asking(templates, kind, training=True)
    tokens = asking.ask(example, order, tokenizer)
    return Task(example.permuted(order), tuple(tokens), asking.template(example.n))


def fitting(
    items: Sequence[Example], longest: int, new: int, prompt: Callable[[Example], Sequence[int]]
) -> list[Example]:
    """The items whose prompts have room; says how many have none, and the first ones' ids.

    Args:
        longest: tokens that a prompt may have beside `new` new ones.
        prompt: the ids of an item's prompt.

    Raises:
        ValueError: no item is left.
    """
    lengths = [len(prompt(item)) for item in items]
    kept = [item for item, length in zip(items, lengths, strict=True) if length <= longest]
    left = [(i.id, n) for i, n in zip(items, lengths, strict=True) if n > longest]
    if left:
        first = ", ".join(f"{name} ({length} tokens)" for name, length in left[:3])
        more = ", .." if len(left) > 3 else ""
        reason = (
            f"{len(left)} of {len(items)} items have prompts of more than {longest} tokens, which "
            f"is the room beside {new} new ones: {first}{more}"
        )
        if not kept:
            raise ValueError(f"{reason}. Give shorter items, or lower max_new_tokens.")
        say(f"grpo: {reason}. They are left out.")
    return kept


def roll_out(
    tasks: Sequence[Task],
    sampler: Sampler,
    tokenizer: Tokenizer,
    group: int,
    reward: Reward = rule_rewards,
) -> list[Rollout]:
    """`group` judgments of each task, in the order of the tasks; a task's share one prefill."""
    requests = [
        Request(task.prompt, item_key(f"{i}/{task.example.digest}"), tuple(range(group)), i)
        for i, task in enumerate(tasks)
    ]
    completions: dict[tuple[int, int], Completion] = {
        (completion.request.tag, completion.sample): completion for completion in sampler(requests)
    }
    rollouts = []
    for i, task in enumerate(tasks):
        written = [completions[i, sample] for sample in range(group)]
        judgments = [_read(task, completion, tokenizer) for completion in written]
        rewards = reward(task.example, judgments)
        rollouts += [
            Rollout(task, judgment, c.tokens, c.logprobs, c.finished, value)
            for judgment, c, value in zip(judgments, written, rewards, strict=True)
        ]
    return rollouts


def _read(task: Task, completion: Completion, tokenizer: Tokenizer) -> Judgment:
    order = tuple(range(task.example.n))
    return read_completion(completion, tokenizer, task.template, order)


def to_arrays(rollouts: Sequence[Rollout], advantage: np.ndarray, longest: int) -> RolloutBatch:
    """Padded prompts and judgments, S and T of few sizes; trainer's log-probabilities still zero.

    Args:
        rollouts: group by group. advantage: [P, G].
        longest: the number of positions that the model has.
    """
    prompts, group = advantage.shape
    tasks = [rollout.task for rollout in rollouts[::group]]
    longest_prompt = max(len(task.prompt) for task in tasks)
    size = bucket(longest_prompt, longest)
    ids, at = np.zeros((prompts, size), np.int32), np.full((prompts, size), -1, np.int32)
    for row, task in enumerate(tasks):
        ids[row, size - len(task.prompt) :] = task.prompt
        at[row, size - len(task.prompt) :] = np.arange(len(task.prompt))
    shape = (len(rollouts), bucket(max(len(r.tokens) for r in rollouts), longest))
    tokens, positions = np.zeros(shape, np.int32), np.full(shape, -1, np.int32)
    sampled = np.zeros(shape, np.float32)
    for row, rollout in enumerate(rollouts):
        first, length = len(rollout.task.prompt), len(rollout.tokens)
        tokens[row, :length] = rollout.tokens
        positions[row, :length] = np.arange(first, first + length)
        sampled[row, :length] = rollout.logprobs
    tokens, positions, sampled = (
        x.reshape(prompts, group, -1) for x in (tokens, positions, sampled)
    )
    zeros = np.zeros(tokens.shape, np.float32)
    return RolloutBatch(
        ids, at, tokens, positions, advantage.astype(np.float32), sampled, zeros, zeros
    )


def rollout_metrics(rollouts: Sequence[Rollout], group: int) -> dict[str, float]:
    """What TRL logs of a batch of completions, under its names, and the share without scores."""
    rewards = np.array([r.reward for r in rollouts]).reshape(-1, group)
    lengths = np.array([len(r.tokens) for r in rollouts])
    # A group of one has no spread; TRL's deviation is the sample's.
    spread = rewards.std(axis=1, ddof=1) if group > 1 else np.zeros(len(rewards))
    reasons = Counter(r.judgment.reason for r in rollouts if r.judgment.reason is not None)
    return {
        REWARD: float(rewards.mean()),
        "reward_std": float(spread.mean()),
        ZERO_STD: float((spread == 0).mean()),
        MEAN_LENGTH: float(lengths.mean()),
        "completions/min_length": float(lengths.min()),
        "completions/max_length": float(lengths.max()),
        "completions/clipped_ratio": float(np.mean([not r.finished for r in rollouts])),
        INVALID_RATIO: reasons.total() / len(rollouts),
    }


def to_row(rollout: Rollout) -> dict[str, Any]:
    """A rollout as a line to be read by people."""
    example = rollout.task.example
    return {
        "id": example.id,
        "query": example.prompt[-1].content,
        "responses": example.responses,
        "label": example.label,
        "scores": rollout.judgment.scores,
        "reward": rollout.reward,
        "text": rollout.judgment.text,
    }
