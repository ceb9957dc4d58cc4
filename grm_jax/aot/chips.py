"""What accelerators hold, compute and move at their peak, by the vendors' own tables."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Chip:
    """A chip, or a GPU.

    Attributes:
        devices: devices per chip, as JAX sees it.
        hbm: bytes of memory that programs can use.
        flops: dense bf16 operations per second.
        hbm_bandwidth: bytes per second from memory.
        ici_bandwidth: bytes per second sent to neighbours, over all links: half of the vendor's
            bidirectional figure.
    """

    devices: int
    hbm: float
    flops: float
    hbm_bandwidth: float
    ici_bandwidth: float

    def seconds(self, flops: float, moved: float) -> float:
        """The least time for so many operations and bytes (the roofline): the longer of the two."""
        return max(flops / self.flops, moved / self.hbm_bandwidth)


GIB = 2.0**30
# docs.cloud.google.com/tpu/docs, a page for each; the memory is what libtpu leaves to programs.
TPUS: dict[str, Chip] = {
    "v5e": Chip(1, 15.75 * GIB, 197e12, 819e9, 200e9),
    "v5p": Chip(1, 95.74 * GIB, 459e12, 2765e9, 600e9),
    "v6e": Chip(1, 31.25 * GIB, 918e12, 1638e9, 400e9),
    "tpu7x": Chip(2, 189.49 * GIB, 2307e12, 7380e9, 600e9),
}
# NVIDIA's data sheets, of the SXM boards; operations without sparsity, links are NVLink's.
GPUS: dict[str, Chip] = {
    "a100": Chip(1, 80e9, 312e12, 2039e9, 300e9),  # A100 80GB
    "h100": Chip(1, 80e9, 989e12, 3350e9, 450e9),
    "h200": Chip(1, 141e9, 989e12, 4800e9, 450e9),
    "b200": Chip(1, 180e9, 2250e12, 8000e9, 900e9),  # HGX B200, an eighth of the board
}
CHIPS = TPUS | GPUS
