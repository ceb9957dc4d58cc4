"""Floor 6: programs compiled ahead of time by the real TPU compiler, and what they will cost."""
