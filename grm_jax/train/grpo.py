"""Rule-based online RL: `grm train grpo`, the second stage of SPCT (equations 11 and 15).

Each step samples G judgments of each of P prompts from the policy, rewards them by rule, and makes
one or more updates of the clipped objective with a KL term to a frozen reference.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from grm_jax.data.items import ItemsConfig, load_items
from grm_jax.judging.collect import collect
from grm_jax.judging.folder import Learns
from grm_jax.judging.reward import is_correct
from grm_jax.judging.sources import JudgeConfig, open_judge
from grm_jax.metric_names import (
    DRIFT,
    NUM_TOKENS,
    SKIPPED,
    TARGET_TOKENS,
    TOKENS,
    TOKENS_PER_SECOND,
)
from grm_jax.objectives.grpo import GRPOLossConfig, group_advantages
from grm_jax.processes import is_first, say, spread
from grm_jax.sampling.sampler import Sampler
from grm_jax.sampling.strategy import Strategy
from grm_jax.sharding import DECODE_RULES, TRAIN_RULES, make_mesh, shardings_of
from grm_jax.text.json_line import json_line
from grm_jax.text.messages import Example
from grm_jax.text.prompts import Templates, load_templates
from grm_jax.text.tokenizer import Tokenizer
from grm_jax.train.checkpoint import CheckpointConfig, Checkpoints
from grm_jax.train.compute import ComputeConfig
from grm_jax.train.fit import Interruption
from grm_jax.train.folder import claimed
from grm_jax.train.guard import Guard
from grm_jax.train.memory import keep_freed_memory
from grm_jax.train.optimizer import OptimizerConfig, make_optimizer, make_schedule
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
)
from grm_jax.train.sft import ExportConfig, export, kind_setting, stage_seed
from grm_jax.train.start import (
    learned_kind,
    load_start,
    start_settings,
    start_templates,
    start_tokenizer,
)
from grm_jax.train.state import TrainState, abstract_state, new_state, state_shardings
from grm_jax.train.step import (
    Step,
    batch_sharding,
    check_rows,
    compile_step,
    make_step,
)
from grm_jax.train.tracking import Tracker, TrackingConfig, cut_after


@dataclass(frozen=True)
class FilterConfig:
    """Items that a reference judge gets right `n` times of `n` are left out (paper: 3 of 3).

    Args:
        judge: the reference judge; by default the model that the stage starts from.
        n: judgments per item; 0 leaves nothing out.

    Raises:
        ValueError: n is negative.
    """

    judge: JudgeConfig = field(default_factory=JudgeConfig)
    n: int = 3

    def __post_init__(self) -> None:
        if self.n < 0:
            raise ValueError(f"filter.n is {self.n}; give 0 (leave nothing out) or more.")


@dataclass(frozen=True)
class GRPOConfig:
    """Rule-based GRPO. What the paper leaves open has the default of GRPO's own paper.

    Args:
        output: the run's folder. The same command continues what is there.
        start: the model that is trained, and the frozen reference of the KL term.
        items: labelled items to judge. filter: which of them are too easy.
        kind: what is trained: "grm", or "judge" (LLM-as-a-Judge: rewarded if it chooses the
            labelled response); by default what `start` is. A judge sees pairs alone, as in the
            paper: of an item with more responses the best and another one (drawn by the seed);
            single responses are left out.
        group: judgments of one prompt, G (paper: 4).
        batch: rollouts per step (paper: 512), counted as `batch_unit` says, on which the paper is
            silent: "outputs" (batch / group prompts, as in GRPO's paper) or "prompts".
        steps: rollouts, each followed by `iterations` updates (1: on-policy).
        loss: beta, clipping, KL estimator, standard deviation.
        strategy: how the policy's tokens are drawn. The policy, and the reference, are the models
            at its temperature; top_k and top_p leave tokens out of the draws alone.
        max_new_tokens: room for one judgment; by default what the model folder says.
        rows: samples decoded at once.
        reference_dtype: what the reference's weights are stored in.
        samples_every: steps between two batches of rollouts that are kept to be read.
        seed: of sampling and shuffling, and of the world's items.

    Raises:
        ValueError: a value outside its range.
    """

    output: str = "runs/grpo"
    start: str = "tiny-start"
    tokenizer: str | None = None
    templates: str | None = None
    items: tuple[ItemsConfig, ...] = (ItemsConfig(limit=1000),)
    filter: FilterConfig = field(default_factory=FilterConfig)
    kind: Learns | None = None
    group: int = 4
    batch: int = 512
    batch_unit: Literal["outputs", "prompts"] = "outputs"
    steps: int = 900
    iterations: int = 1
    loss: GRPOLossConfig = field(default_factory=GRPOLossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    strategy: Strategy = field(default_factory=Strategy)
    max_new_tokens: int | None = None
    rows: int = 64
    reference_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    samples_every: int = 10
    seed: int = 0
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    export: ExportConfig = field(default_factory=ExportConfig)

    def __post_init__(self) -> None:
        for name in ("group", "batch", "steps", "iterations", "samples_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more.")
        if self.batch_unit == "outputs" and self.batch % self.group:
            raise ValueError(
                f"batch is {self.batch} outputs in groups of {self.group}: give a multiple of it."
            )
        if self.strategy.temperature == 0:
            raise ValueError("strategy.temperature is 0: all of a group would be equal.")
        make_schedule(self.optimizer, self.steps * self.iterations)


def prompts_of(cfg: GRPOConfig) -> int:
    """Prompts per step. No property of the config: the command line would take it for a command."""
    return cfg.batch // cfg.group if cfg.batch_unit == "outputs" else cfg.batch


def run(cfg: GRPOConfig) -> Path | None:
    """Trains, or does what is left of it, and writes the model folder `output/model`.

    Beside it: filter.jsonl (the reference judge's judgments), metrics.jsonl (one line per step),
    rollouts.jsonl (judgments to be read, every few steps and of skipped steps). Items whose
    prompts have no room are counted and left out.

    Returns:
        The model folder; None if a signal ended the run early (the same command continues it).

    Raises:
        ValueError, FileNotFoundError: what does not fit, and what to do.
    """
    keep_freed_memory()
    mesh = make_mesh(cfg.compute.mesh)
    check_rows(prompts_of(cfg) * cfg.group, cfg.compute.microbatches, mesh)
    tokenizer = start_tokenizer(cfg.start, cfg.tokenizer)
    templates = start_templates(cfg.start, cfg.templates)
    with claimed(cfg, "grm train grpo") as output:
        with jax.set_mesh(mesh):
            policy = _Policy(cfg, mesh, tokenizer, load_templates(templates))
        items = _hard_items(cfg, policy.fitting(_items(cfg)), output, templates)
        with jax.set_mesh(mesh):
            params = _train(cfg, output, policy, items)
        if params is None:
            return None
        folder, settings = output / "model", kind_setting(policy.kind)
        return export(
            policy.model, params, folder, cfg.export, cfg.start, tokenizer, templates, settings
        )


def _items(cfg: GRPOConfig) -> list[Example]:
    """The items as the kind of judge that is trained sees them."""
    kind = learned_kind(cfg.start, cfg.kind)
    items = judgeable(load_items(cfg.items, cfg.seed), kind)
    return [as_pair(item, cfg.seed) for item in items] if kind == "judge" else items


def _hard_items(
    cfg: GRPOConfig, items: list[Example], output: Path, templates: Path | None
) -> list[Example]:
    """The items without those that the reference judge always gets right."""
    if not cfg.filter.n:
        return items
    kind = learned_kind(cfg.start, cfg.kind)
    judge = open_judge(
        replace(cfg.filter.judge, kind=cfg.filter.judge.kind or kind),
        cfg.start,
        seed=stage_seed(cfg.seed, "filter"),
        templates=None if templates is None else str(templates),
        mesh=cfg.compute.mesh,
    )
    found = collect(judge, items, cfg.filter.n, output / "filter.jsonl", name="grpo filter")
    hard = [
        sampled.example
        for sampled in found
        if not all(is_correct(j.scores, sampled.example.label or 0) for j in sampled.judgments)
    ]
    if len(hard) < prompts_of(cfg):
        raise ValueError(
            f"the reference judge leaves {len(hard)} of {len(items)} items, fewer than the "
            f"{prompts_of(cfg)} prompts of one step: give more items, or a smaller batch."
        )
    say(f"grpo: {len(hard)} of {len(items)} items are not too easy.")
    return hard


class _Policy:
    """The model that is trained, with the programs that sample from it, score it and update it."""

    def __init__(self, cfg: GRPOConfig, mesh: Mesh, tokenizer: Tokenizer, templates: Templates):
        self.cfg, self.mesh, self.tokenizer, self.templates = cfg, mesh, tokenizer, templates
        self.kind: Learns = learned_kind(cfg.start, cfg.kind)
        self.model, self.load = load_start(
            cfg.start, tokenizer, mesh, dtype=cfg.compute.dtype, seed=cfg.seed
        )
        self.schedule = make_schedule(cfg.optimizer, cfg.steps * cfg.iterations)
        self.optimizer = make_optimizer(cfg.optimizer, self.schedule, self.model.axes())
        self.places = state_shardings(self.model, self.optimizer, mesh)
        loss = policy_loss(
            self.model,
            cfg.loss,
            on_policy=cfg.iterations == 1,
            chunk=cfg.compute.logits_chunk,
            remat=cfg.compute.remat,
            temperature=cfg.strategy.temperature,
        )
        step = make_step(loss, self.optimizer, self.schedule, microbatches=cfg.compute.microbatches)
        self.update: Step = compile_step(step, self.places, mesh)
        self.score = make_scorer(self.model, cfg.compute, cfg.strategy.temperature)
        self.decode_places = shardings_of(self.model.axes(), mesh, DECODE_RULES)
        self.many = mesh.size > 1
        limit = cfg.max_new_tokens or start_settings(cfg.start).get("max_new_tokens")
        self.max_new_tokens = limit or self.model.config.max_position // 2
        self.longest = self.model.config.max_position - self.max_new_tokens

    def task(self, item: Example, turn: int = 0) -> Task:
        """The item as it is shown in a pass over the items, each of which has another order."""
        seed = stage_seed(self.cfg.seed, f"order {turn}")
        return make_task(item, self.templates, self.tokenizer, seed, self.kind)

    def fitting(self, items: Sequence[Example]) -> list[Example]:
        """The items whose prompts have room beside the new tokens."""
        prompt = lambda item: self.task(item).prompt  # noqa: E731
        return fitting(items, self.longest, self.max_new_tokens, prompt)

    def reference(self) -> Any:
        """The frozen reference: the start's weights, sharded as in training."""
        cast = lambda p: jax.tree.map(lambda x: x.astype(self.cfg.reference_dtype), p)  # noqa: E731
        places = shardings_of(self.model.axes(), self.mesh, TRAIN_RULES)
        return jax.jit(cast, out_shardings=places, donate_argnums=0)(self.load())

    def begin(self) -> TrainState:
        """The state before the first step."""
        begin = jax.jit(
            lambda p: new_state(p, self.optimizer), out_shardings=self.places, donate_argnums=0
        )
        return begin(self.load())

    def sampler(self, params: Any, step: int) -> Sampler:
        """Draws from these weights, which move from where training has them to where decoding
        wants them; every step has random numbers of its own."""
        return Sampler(
            self.model,
            jax.device_put(params, self.decode_places) if self.many else params,
            stop_ids=self.tokenizer.stop_ids,
            strategy=self.cfg.strategy,
            seed=stage_seed(self.cfg.seed, f"rollout {step}"),
            max_new_tokens=self.max_new_tokens,
            rows=self.cfg.rows,
            mesh=self.mesh if self.many else None,
        )


def _train(cfg: GRPOConfig, output: Path, policy: _Policy, items: list[Example]) -> Any | None:
    """The loop: the weights after the last step, or None if a signal stopped it."""
    with Checkpoints(output / "checkpoints", cfg.checkpoint, policy.model) as checkpoints:
        done = checkpoints.latest or 0
        if done:
            abstract = abstract_state(policy.model, policy.optimizer, policy.places)
            state = checkpoints.restore(abstract)
        else:
            state = policy.begin()
        reference = policy.reference() if cfg.loss.beta else None
        folder = output if is_first() else None
        tracker = Tracker(folder, cfg.tracking, start=done, total=cfg.steps, name="grpo")
        kept = None if folder is None else folder / "rollouts.jsonl"
        if kept is not None:
            cut_after(kept, done)
        guard, tokens = Guard(folder), tracker.before.get(NUM_TOKENS, 0)
        try:
            with Interruption() as interruption:
                for step, tasks in _tasks(cfg, policy, items, done):
                    state, metrics, rollouts = _one_step(policy, state, reference, tasks, step)
                    done, tokens = step + 1, tokens + metrics[TOKENS]
                    tracker.log(done, {**metrics, NUM_TOKENS: tokens})
                    if kept is not None and (step % cfg.samples_every == 0 or metrics[SKIPPED]):
                        _keep(kept, done, rollouts[: 4 * cfg.group])
                    guard.see(done, metrics, partial(_batch, policy, rollouts))
                    if done == cfg.steps:
                        guard.finish(done)
                    last = done == cfg.steps or interruption.wanted()
                    if not guard.in_row:
                        checkpoints.save(done, state, force=last)
                    if last:
                        break
        finally:
            tracker.close()
    if done < cfg.steps:
        say(f"Stopped after step {done} of {cfg.steps}; the same command goes on.")
        return None
    return state.params


def _tasks(
    cfg: GRPOConfig, policy: _Policy, items: Sequence[Example], done: int
) -> Iterator[tuple[int, list[Task]]]:
    """The prompts of each step that is left; every pass over the items has a new order."""
    order = grain.MapDataset.source(range(len(items))).seed(cfg.seed).shuffle().repeat()
    for step in range(done, cfg.steps):
        tasks = []
        for place in range(step * prompts_of(cfg), (step + 1) * prompts_of(cfg)):
            item = items[int(order[place] or 0)]
            task = policy.task(item, place // len(items))
            # Another order may take a token more; that of the first pass is known to fit.
            tasks.append(task if len(task.prompt) <= policy.longest else policy.task(item))
        yield step, tasks


def _one_step(
    policy: _Policy, state: TrainState, reference: Any, tasks: list[Task], step: int
) -> tuple[TrainState, dict[str, float], list[Rollout]]:
    """Rollout, rewards, updates: the new state, what happened, and what was written."""
    cfg, began = policy.cfg, time.monotonic()
    sampler = policy.sampler(state.params, step)
    rollouts = roll_out(tasks, sampler, policy.tokenizer, cfg.group)
    rolled = time.monotonic()
    host = _batch(policy, rollouts)
    batch = spread(host, batch_sharding(policy.mesh))
    if reference is not None:
        batch = batch._replace(reference_logprob=policy.score(reference, batch))
    if cfg.iterations > 1:
        batch = batch._replace(old_logprob=policy.score(state.params, batch))
    updates: list[dict[str, jax.Array]] = []
    for _ in range(cfg.iterations):
        state, metrics = policy.update(state, batch)
        updates.append(metrics)
    found = jax.device_get(updates)
    numbers = {name: float(x) for name, x in found[-1].items()}
    ended = time.monotonic()
    tokens = int(host.mask.sum())
    per_token = {name: numbers.pop(name) / max(tokens, 1) for name in SUMMED if name in numbers}
    return (
        state,
        {
            **rollout_metrics(rollouts, cfg.group),
            **per_token,
            **numbers,
            SKIPPED: float(max(update[SKIPPED] for update in found)),
            # Of the first update: there the policy is the one that wrote the tokens.
            DRIFT: float(found[0][DRIFT]) / len(rollouts),
            TOKENS: sum(len(r.task.prompt) + len(r.tokens) for r in rollouts),
            TARGET_TOKENS: tokens,
            TOKENS_PER_SECOND: tokens / (ended - began),
            "time/rollout": rolled - began,
            "time/update": ended - rolled,
        },
        rollouts,
    )


def _batch(policy: _Policy, rollouts: Sequence[Rollout]) -> RolloutBatch:
    """What an update is given of these rollouts."""
    cfg = policy.cfg
    rewards = jnp.array([r.reward for r in rollouts]).reshape(-1, cfg.group)
    advantage = np.asarray(group_advantages(rewards, cfg.loss.advantage_std)).reshape(-1)
    return to_arrays(rollouts, advantage, policy.model.config.max_position)


def _keep(path: Path, step: int, rollouts: Sequence[Rollout]) -> None:
    """Appends judgments to be read."""
    with path.open("a", encoding="utf-8") as file:
        for rollout in rollouts:
            example = rollout.task.example
            row = {
                "step": step,
                "id": example.id,
                "query": example.prompt[-1].content,
                "responses": example.responses,
                "label": example.label,
                "scores": rollout.judgment.scores,
                "reward": rollout.reward,
                "text": rollout.judgment.text,
            }
            file.write(json_line(row))
