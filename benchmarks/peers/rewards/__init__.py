"""Trainers of other people with our reward, one file for each; each runs in its own environment."""
