"""What SPCT costs stage by stage, and how many chips it takes, by a model's sizes."""

from __future__ import annotations

from grm_jax.aot.chips import Chip
from grm_jax.aot.config import SPCTWork, VerdictWork
from grm_jax.aot.verdict import cache_size, judging, rating, update, weights_size
from grm_jax.models.model import Model

# Of training, per parameter: weights and two moments in f32, and the frozen reference in bf16.
STATE = 3 * 4 + 2
# Of a chip's memory, for what lies in it all the time; activations take the rest.
JUDGING, TRAINING = 0.9, 0.8


def verdict(model: Model, chip: Chip, work: VerdictWork) -> dict[str, float]:
    """Chip-seconds of a verdict, by part."""
    drawn = judging(model, chip, work.k, work.prompt, work.new, work.slots)
    parts = {"samples": drawn}
    if work.meta_rm:
        parts["meta RM"] = rating(model, chip, work.k, work.prompt, work.new)
    return parts


def spct(
    model: Model, small: Model, chip: Chip, work: VerdictWork, plan: SPCTWork
) -> dict[str, float]:
    """Chip-seconds of every stage; `small` is the model that finds easy items."""

    def sampled(by: Model, k: int) -> float:
        return judging(by, chip, k, work.prompt, work.new, work.slots) if k else 0.0

    def rated(k: int) -> float:
        return rating(model, chip, k, work.prompt, work.new)

    row = update(model, chip, 0, plan.length, logits=plan.length)
    scored = update(model, chip, 0, plan.length, logits=0)
    prompts = plan.rl_steps * plan.rl_batch // plan.group
    both = sampled(model, plan.n_plain) + sampled(model, plan.n_hinted)  # prompts of their own
    # What RFT made and what RL made, and once the model that they start from.
    judged = 2 * (sampled(model, plan.k) + rated(plan.k)) + sampled(model, plan.k_start)
    return {
        "RFT: sampling": plan.items * both,
        "RFT: training": plan.rft_steps * plan.rft_batch * row,
        "RL: easy items": plan.items * sampled(small, plan.n_filter),
        "RL: rollouts": prompts * sampled(model, plan.group),
        "RL: training": prompts * _learned(model, chip, work, plan.group),
        "meta RM: sampling": plan.meta_items * sampled(model, plan.n_meta),
        "meta RM: training": plan.meta_steps * plan.meta_batch * scored,
        "evaluation": plan.rows * judged,
    }


def _learned(model: Model, chip: Chip, work: VerdictWork, group: int) -> float:
    """A group of rollouts: the reference's log-probabilities and the update, the prompt once."""
    last = work.prompt + work.new
    front = update(model, chip, 0, work.prompt, logits=0)
    each = update(model, chip, work.prompt, last, logits=work.new)
    trained = front + group * each
    return trained + trained / 3  # the reference's forward pass is a third of an update


def chips_to_judge(model: Model, chip: Chip, work: VerdictWork) -> int:
    """The fewest chips, a power of two, that hold the weights and the caches."""
    prompts = max(work.slots / work.k, 1)
    caches = prompts * cache_size(model, work.prompt) + work.slots * cache_size(model, work.new)
    return _power_of_two((weights_size(model) + caches) / (JUDGING * chip.hbm))


def chips_to_train(model: Model, chip: Chip) -> int:
    """The fewest chips, a power of two, that hold the training state of RL."""
    return _power_of_two(STATE * model.num_params() / (TRAINING * chip.hbm))


def _power_of_two(least: float) -> int:
    chips = 1
    while chips < least:
        chips *= 2
    return chips
