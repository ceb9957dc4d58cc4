"""A judge as the reward function of other people's trainers."""

from grm_jax.rewards.reward import JudgeReward

__all__ = ["JudgeReward"]
