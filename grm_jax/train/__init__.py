"""Training: state, step, checkpoints, and the stages built on them."""
