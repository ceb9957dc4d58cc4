"""Online RL: `grm train grpo`, the second stage of SPCT (equations 11 and 15).

A stage whose batches are rollouts. Each step samples G judgments of each of P prompts from the
policy, rewards them (by rule, unless --reward names another), and makes one or more updates of the
clipped objective with a KL term to a frozen reference.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np

from grm_jax.data.items import load_items
from grm_jax.judging.kinds import Learns
from grm_jax.judging.reward import REWARDS, Reward
from grm_jax.metric_names import (
    DRIFT,
    NUM_TOKENS,
    SKIPPED,
    TARGET_TOKENS,
    TOKENS,
    TOKENS_PER_SECOND,
)
from grm_jax.models.adapted import frozen_values
from grm_jax.objectives.grpo import group_advantages
from grm_jax.processes import spread
from grm_jax.sampling.sampler import Sampler
from grm_jax.sharding import DECODE_RULES, TRAIN_RULES, shardings_of
from grm_jax.text.messages import Example
from grm_jax.train.adapter import for_sampling, trained_part
from grm_jax.train.config import RunConfig
from grm_jax.train.easy_items import hard_items
from grm_jax.train.export import export
from grm_jax.train.loop import Drawn, train_stage
from grm_jax.train.policy_loss import SUMMED, make_scorer, policy_loss
from grm_jax.train.rollout import (
    Rollout,
    RolloutBatch,
    Task,
    as_pair,
    fitting,
    judgeable,
    make_task,
    roll_out,
    rollout_metrics,
    to_arrays,
    to_row,
)
from grm_jax.train.run import Run, open_run
from grm_jax.train.stages.grpo import GRPOConfig
from grm_jax.train.start import learned_kind, load_start, start_settings
from grm_jax.train.step import SumLoss, batch_sharding
from grm_jax.train.tracking import Numbers


def run(run: RunConfig, cfg: GRPOConfig, reward: Reward | None = None) -> Path | None:
    """Trains, or does what is left of it, and writes the model folder `output/model`.

    Beside it: filter.jsonl (the reference judge's judgments), metrics.jsonl (one line per step),
    rollouts.jsonl (judgments to be read, every few steps and of skipped steps). Items whose
    prompts have no room are counted and left out.

    Args:
        reward: in the place of the one that the config names.

    Returns:
        The model folder; None if a signal ended the run early (the same command continues it).

    Raises:
        ValueError, FileNotFoundError: what does not fit, and what to do.
    """
    with open_run("grm train grpo", run, cfg, sequences=cfg.prompts, name="prompts") as opened:
        with jax.set_mesh(opened.mesh):
            policy = Policy(opened, cfg, reward)
        items = judgeable(load_items(cfg.items, run.seed), policy.kind)
        if policy.kind == "judge":
            items = [as_pair(item, run.seed) for item in items]
        items = policy.fitting(items)
        items = hard_items(opened, cfg.filter, items, policy.kind, cfg.prompts)
        with jax.set_mesh(opened.mesh):
            params = train_stage(
                opened,
                policy.model,
                policy.load,
                policy.loss(),
                Rollouts(policy, items).draw,
                cfg.optimizer,
                steps=cfg.steps,
                folder=opened.output,
                name="grpo",
                updates=cfg.iterations,
                overlap=cfg.overlap,
            )
        if params is None:
            return None
        return export(opened, policy.model, params, kind=policy.kind)


class Policy:
    """The model that is trained: how it is asked, sampled from, scored and rewarded."""

    def __init__(self, run: Run, cfg: GRPOConfig, reward: Reward | None = None):
        self.run, self.cfg, self.reward = run, cfg, reward or REWARDS[cfg.reward]
        self.templates, compute = run.load_templates(), run.training.compute
        self.kind: Learns = learned_kind(run.config.start, cfg.kind)
        self.model, self.load = load_start(
            run.config.start,
            run.tokenizer,
            run.mesh,
            dtype=compute.dtype,
            seed=run.config.seed,
            adapter=run.config.adapter.rank > 0,
        )
        self.part = trained_part(run, self.model, self.load)
        self.score = make_scorer(self.model, compute, cfg.strategy.temperature)
        self.decode_shardings = shardings_of(self.model.axes(), run.mesh, DECODE_RULES)
        limit = cfg.max_new_tokens or start_settings(run.config.start).get("max_new_tokens")
        self.max_new_tokens = limit or self.model.config.max_position // 2
        self.longest = self.model.config.max_position - self.max_new_tokens

    def loss(self) -> SumLoss:
        """The objective."""
        return policy_loss(
            self.model,
            self.cfg.loss,
            on_policy=self.cfg.on_policy,
            chunk=self.run.training.compute.logits_chunk,
            remat=self.run.training.compute.remat,
            temperature=self.cfg.strategy.temperature,
            router=self.run.training.router_loss,
        )

    def task(self, item: Example, turn: int = 0) -> Task:
        """The item as it is shown in a pass over the items, each of which has another order."""
        seed = self.run.seed_of(f"order {turn}")
        return make_task(item, self.templates, self.run.tokenizer, seed, self.kind)

    def fitting(self, items: Sequence[Example]) -> list[Example]:
        """The items whose prompts have room beside the new tokens."""
        prompt = lambda item: self.task(item).prompt  # noqa: E731
        return fitting(items, self.longest, self.max_new_tokens, prompt)

    def reference(self) -> Callable[[Any], Any]:
        """Gives the frozen reference's weights, sharded as in training, given the policy's.

        They are the start's; with an adapter the policy's own frozen ones, and the adapter as it
        was before the first step.
        """
        if self.run.config.adapter.rank:
            begun = self.part.begin()
            return lambda params: self.part.join(frozen_values(params), begun)
        cast = lambda p: jax.tree.map(lambda x: x.astype(self.cfg.reference_dtype), p)  # noqa: E731
        shardings = shardings_of(self.model.axes(), self.run.mesh, TRAIN_RULES)
        weights = jax.jit(cast, out_shardings=shardings, donate_argnums=0)(self.load())
        return lambda _: weights

    def roll_out(self, params: Any, tasks: Sequence[Task], step: int) -> list[Rollout]:
        """A group of judgments of each task, by these weights, which move from where training has
        them to where decoding wants them; every step has random numbers of its own."""
        many = self.run.mesh.size > 1
        params = for_sampling(params, self.model.dtype)
        sampler = Sampler(
            self.model,
            jax.device_put(params, self.decode_shardings) if many else params,
            stop_ids=self.run.tokenizer.stop_ids,
            strategy=self.cfg.strategy,
            seed=self.run.seed_of(f"rollout {step}"),
            max_new_tokens=self.max_new_tokens,
            slots=self.cfg.slots,
            mesh=self.run.mesh if many else None,
        )
        return roll_out(tasks, sampler, self.run.tokenizer, self.cfg.group, self.reward)

    def arrays(self, rollouts: Sequence[Rollout]) -> RolloutBatch:
        """What an update is given of these rollouts."""
        rewards = jnp.array([r.reward for r in rollouts]).reshape(-1, self.cfg.group)
        advantage = group_advantages(rewards, self.cfg.loss.advantage_std)
        return to_arrays(rollouts, np.asarray(advantage), self.model.config.max_position)


class Rollouts:
    """The batches of the stage: judgments that the policy has just written."""

    def __init__(self, policy: Policy, items: Sequence[Example]):
        self.policy, self.items = policy, items
        self.reference = policy.reference() if policy.cfg.loss.beta else None
        source = grain.MapDataset.source(range(len(items)))
        self._order = source.seed(policy.run.config.seed).shuffle().repeat()
        self._reported = 0.0  # when the last step was

    def tasks(self, step: int) -> list[Task]:
        """The prompts of a step; every pass over the items has a new order."""
        tasks, prompts = [], self.policy.cfg.prompts
        for index in range(step * prompts, (step + 1) * prompts):
            item = self.items[int(self._order[index] or 0)]
            task = self.policy.task(item, index // len(self.items))
            # Another order may take a token more; that of the first pass is known to fit.
            fits = len(task.prompt) <= self.policy.longest
            tasks.append(task if fits else self.policy.task(item))
        return tasks

    def draw(self, params: Any, step: int) -> Drawn:
        """The batch of a step: rollouts, rewards, and what the reference makes of them."""
        policy, began = self.policy, time.monotonic()
        rollouts = policy.roll_out(params, self.tasks(step), step)
        rolled = time.monotonic()
        host = policy.arrays(rollouts)
        batch = spread(host, batch_sharding(policy.run.mesh))
        if self.reference is not None:
            reference = self.reference(params)
            batch = batch._replace(reference_logprob=policy.score(reference, batch))
        if not policy.cfg.on_policy:
            batch = batch._replace(old_logprob=policy.score(params, batch))

        def report(
            updates: list[Numbers], before: Numbers
        ) -> tuple[Numbers, Sequence[Mapping[str, Any]]]:
            # With overlap a step's rollout begins before the step before is reported.
            ended = time.monotonic()
            free, self._reported = self._reported, ended
            numbers = step_metrics(rollouts, updates, policy.cfg.group)
            total = before.get(NUM_TOKENS, 0) + numbers[TOKENS]
            seconds = {
                TOKENS_PER_SECOND: numbers[TARGET_TOKENS] / (ended - max(began, free)),
                "time/rollout": rolled - began,
                "time/update": ended - max(rolled, free),
            }
            read = step % policy.cfg.samples_every == 0 or numbers[SKIPPED]
            samples = rollouts[: 4 * policy.cfg.group] if read else ()
            return {**numbers, **seconds, NUM_TOKENS: total}, [to_row(r) for r in samples]

        return Drawn(host, batch, report)


def step_metrics(rollouts: Sequence[Rollout], updates: list[Numbers], group: int) -> Numbers:
    """The metrics of a step from those of its updates."""
    numbers, tokens = dict(updates[-1]), sum(len(r.tokens) for r in rollouts)
    per_token = {name: numbers.pop(name) / max(tokens, 1) for name in SUMMED if name in numbers}
    return {
        **rollout_metrics(rollouts, group),
        **per_token,
        **numbers,
        SKIPPED: max(update[SKIPPED] for update in updates),
        # Of the first update: there the policy is the one that wrote the tokens (with overlap, one
        # step's updates further).
        DRIFT: updates[0][DRIFT] / len(rollouts),
        TOKENS: sum(len(r.task.prompt) + len(r.tokens) for r in rollouts),
        TARGET_TOKENS: tokens,
    }
