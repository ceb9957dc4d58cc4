"""Floor 6: speed, as a share of what this machine can do, which is measured in the same run."""
