"""The reward model itself: judgments, votes, verdicts."""
