"""Words: examples, prompts, parsing, tokens. Imports no jax."""
