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

# Of models with experts; no token is ever dropped, so that there is no number for it.
GATES = "experts"  # what these are made of, between the loss and the step
MAX_LOAD = "experts/max_load"  # tokens of the busiest expert over the mean; with /N of layer N
IDLE = "experts/idle"  # the share of experts that no token of the batch went to
BALANCE = "experts/balance_loss"  # mean over layers, before its weight: 1 where use is even
Z = "experts/z_loss"

REWARD = "reward"
KL = "kl"
ENTROPY = "entropy"
MEAN_LENGTH = "completions/mean_length"
INVALID_RATIO = "completions/invalid_ratio"
ZERO_STD = "frac_reward_zero_std"
TOKENS_PER_SECOND = "tokens_per_second"
DRIFT = "sampling/logprob_drift"
NUM_TOKENS = "num_tokens"  # prompts and completions since the first step
