"""`grm train`: runs a training stage and says where its model is."""

from __future__ import annotations

import sys

from grm_jax.train import sft
from grm_jax.train.sft import SFTConfig

__all__ = ["SFTConfig", "run"]


def run(config: SFTConfig) -> int:
    """Trains; 0 when the model folder is written, 1 when a signal ended the run before."""
    folder = sft.run(config)
    if folder is None:
        return 1
    print(f"The model is in {folder}: grm judge --model {folder}", file=sys.stderr)
    return 0
