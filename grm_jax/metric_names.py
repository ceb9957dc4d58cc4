"""Names of metrics that are logged in one place and read in another: one definition for both.

Those of GRPO are TRL's, and mean what they mean there.
"""

LOSS = "train/loss"
SKIPPED = "train/skipped"  # 1 if the loss or the gradient was not finite: nothing was changed
CORRECT = "train/correct"  # of TARGETS, how many the model has right

TOKENS = "data/tokens"
TARGETS = "data/targets"  # labels or pairs that a scoring model learns from
TARGET_TOKENS = "data/target_tokens"
TOO_LONG = "data/too_long"

REWARD = "reward"
KL = "kl"
ENTROPY = "entropy"
MEAN_LENGTH = "completions/mean_length"
INVALID_RATIO = "completions/invalid_ratio"
ZERO_STD = "frac_reward_zero_std"
TOKENS_PER_SECOND = "tokens_per_second"
DRIFT = "sampling/logprob_drift"
NUM_TOKENS = "num_tokens"  # prompts and completions since the first step
