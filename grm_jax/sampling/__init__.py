"""Tokens out: how one is chosen, and the loop that draws them."""
