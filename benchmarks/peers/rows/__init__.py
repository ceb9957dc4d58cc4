"""The workers, one file for each peer; each runs in that peer's environment."""
