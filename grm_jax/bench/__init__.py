"""Floor 5: speed, measured on the machine at hand and told as ratios of one run."""
