"""Floor 4: how good a judge is, with error bars."""
