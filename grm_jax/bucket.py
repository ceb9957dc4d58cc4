"""Few lengths for all sequences, so that few programs are compiled."""

from __future__ import annotations

SMALLEST = 32


def bucket(length: int, longest: int) -> int:
    """Padded length: 32, 48, 64, 96, 128 .. up to `longest`, so that few shapes serve all."""
    size = SMALLEST
    while size < length:
        size = size * 3 // 2 if size & (size - 1) == 0 else size // 3 * 4
    return min(size, longest)
