"""Two steps of Tunix's `GRPOLearner`, whose prompts have gone through a chat template."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from tunix.models.gemma import model as gemma
from tunix.rl import rl_cluster
from tunix.rl.grpo import grpo_learner
from tunix.rl.rollout import base_rollout
from tunix.sft import metrics_logger

from benchmarks.peers.rewards import shared

PROMPTS, PROMPT_LENGTH = 2, 128
LOGGED: list[tuple[str, float]] = []


class Characters:
    """A tokenizer whose tokens are characters."""

    def encode(self, text: str, **_: Any) -> list[int]:
        return [shared.FIRST + shared.CHARACTERS.index(one) for one in text.replace("\n", "~")]

    def decode(self, ids: Any, **_: Any) -> str:
        # Whatever is drawn: the toy policy is to answer in digits.
        return "".join(str(int(i) % 10) for i in ids)

    def bos_id(self) -> int:
        return shared.BOS

    def eos_id(self) -> int:
        return shared.EOS

    def pad_id(self) -> int:
        return shared.PAD


class Log:
    """A backend of its metrics logger."""

    def log_scalar(self, event: str, value: float | np.ndarray, **_: Any) -> None:
        LOGGED.append((event, float(np.mean(value))))

    def close(self) -> None:
        pass


def policy(seed: int) -> Any:
    """Its Gemma-2, tiny and random."""
    local, full = gemma.AttentionType.LOCAL_SLIDING, gemma.AttentionType.GLOBAL
    config = gemma.ModelConfig(
        num_layers=2,
        num_embed=128,
        embed_dim=16,
        hidden_dim=32,
        num_heads=2,
        head_dim=16,
        num_kv_heads=1,
        final_logit_softcap=30.0,
        attn_logits_soft_cap=50.0,
        use_post_attn_norm=True,
        use_post_ffw_norm=True,
        sliding_window_size=16,
        attention_types=(local, full),
    )
    return gemma.Gemma(config, rngs=nnx.Rngs(params=seed))


def cluster() -> Any:
    """Policy, reference and rollouts on one device."""
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:1]).reshape(1, 1), ("fsdp", "tp"))
    role = rl_cluster.Role
    logging = metrics_logger.MetricsLoggerOptions(
        log_dir="/nowhere", backend_kwargs={"custom_backend": [Log]}
    )
    config = rl_cluster.ClusterConfig(
        role_to_mesh={role.ACTOR: mesh, role.REFERENCE: mesh, role.ROLLOUT: mesh},
        training_config=rl_cluster.RLTrainingConfig(
            actor_optimizer=optax.sgd(1e-3),
            eval_every_n_steps=10,
            max_steps=shared.STEPS,
            metrics_logging_options=logging,
        ),
        rollout_config=base_rollout.RolloutConfig(
            max_tokens_to_generate=2, max_prompt_length=PROMPT_LENGTH, kv_cache_size=256
        ),
    )
    return rl_cluster.RLCluster(
        actor=policy(0), reference=policy(0), tokenizer=Characters(), cluster_config=config
    )


def rendered(question: str) -> str:
    """As a data pipeline for Tunix writes it."""
    return f"<start_of_turn>user\n{question}<end_of_turn>\n<start_of_turn>model\n"


def main() -> None:
    """Trains; compares the log with the rewards, and hands these over."""
    seen: list[tuple[list[str], list[str], list[float]]] = []

    def watch(prompts: Any, completions: Any, rewards: Any, **_: Any) -> dict[str, Any]:
        """A metric function, which is given what the learner computes with."""
        seen.append((list(prompts), list(completions), np.asarray(rewards).tolist()))
        return {}

    reward = shared.judge_reward()
    learner = grpo_learner.GRPOLearner(
        rl_cluster=cluster(),
        algo_config=grpo_learner.GRPOConfig(num_generations=shared.GROUP),
        reward_fns=reward.tunix,
        metric_fns=[watch, reward.tunix_metrics],
    )
    questions = list(map(rendered, shared.QUESTIONS))
    batches = [questions[i : i + PROMPTS] for i in range(0, len(questions), PROMPTS)]
    learner.train([{"prompts": np.array(batch)} for batch in batches])
    assert len(seen) == shared.STEPS
    names = ("rewards/train/grm", *(f"grm/train/{name}" for name in shared.METRICS))
    logged = {name: [value for event, value in LOGGED if event == name] for name in names}
    assert {len(values) for values in logged.values()} == {shared.STEPS}, logged
    means = [np.mean(rewards) for _, _, rewards in seen]
    np.testing.assert_allclose(logged["rewards/train/grm"], means)
    np.testing.assert_allclose(logged["grm/train/score"], means)
    prompts = [shared.QUESTIONS[questions.index(p)] for given, _, _ in seen for p in given]
    responses = [response for _, given, _ in seen for response in given]
    rewards = [reward for _, _, given in seen for reward in given]
    shared.hand_over("tunix", prompts, responses, rewards, shared.GROUP)


if __name__ == "__main__":
    main()
