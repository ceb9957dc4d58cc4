"""grm_jax: generalist reward models that write a critique before they score."""

__version__ = "0.1.0"
