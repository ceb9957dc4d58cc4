"""The stages of training, in settings; nothing here needs jax."""
