"""Losses: per-example in, per-example out."""
