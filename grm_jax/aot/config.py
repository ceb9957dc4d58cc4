"""What `grm aot` compiles; nothing here needs jax."""

# Each program with the sequences of one run, by default the paper's, and whether it trains.
PROGRAMS: dict[str, tuple[int, bool]] = {
    "rft-step": (1024, True),
    "grpo-step": (512, True),
    "grpo-score": (512, True),
    "meta-step": (512, True),
    "meta-score": (32, False),
    "prefill": (32, False),
    "decode": (32, False),
}
