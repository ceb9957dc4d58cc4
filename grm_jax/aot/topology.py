"""TPU slices that need not be there: "v5p:4x4x4" is 64 chips of v5p, "v5p:4x4x4*2" two slices."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from typing import Any

from grm_jax.aot.chips import TPUS, Chip


@dataclass(frozen=True)
class Topology:
    """One or several slices: chips of one kind, each slice in a grid.

    Slices are joined by the data centre's network (DCN), which by the vendor's tables is 32 (v6e)
    to 96 times (v5p) slower than the links inside a slice (ICI). Costs do not distinguish the two:
    traffic between slices is counted as if it went over ICI. So the time of the network remains a
    lower bound, but a looser one.

    Raises:
        ValueError: the name has no known kind of chip, no grid, or no valid number of slices.
    """

    name: str

    def __post_init__(self) -> None:
        if not re.fullmatch(rf"({'|'.join(TPUS)}):\d+x\d+(x\d+)?(\*[1-9]\d*)?", self.name):
            raise ValueError(
                f"topology is {self.name!r}; give a kind of chip ({', '.join(TPUS)}) and a "
                "grid, such as v5p:4x4x4 or v6e:16x16, followed by * and the number of slices if "
                "there are several: v5p:4x4x4*2."
            )

    @property
    def chip(self) -> Chip:
        """The kind of chip."""
        return TPUS[self.name.partition(":")[0]]

    @property
    def chips(self) -> int:
        """The number of chips in all slices."""
        return math.prod(map(int, re.findall(r"\d+", self.name.partition(":")[2])))

    def devices(self) -> list[Any]:
        """The devices as the TPU compiler describes them; no TPU is needed.

        Raises:
            ValueError: libtpu is not installed, or does not know such a slice.
        """
        # Without it libtpu would ask the network which machine this is.
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
        os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5p-8")
        os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
        # The lock is for chips; any number of processes may load the compiler.
        os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
        from jax.experimental import topologies

        grid, _, slices = self.name.partition("*")
        # Unlike a real slice's, the compiler's description of one slice has no slice numbers.
        said: dict[str, Any] = {} if slices in ("", "1") else {"num_slices": int(slices)}
        if re.search(r":1x1(x1)?$", grid):
            said["chips_per_host_bounds"] = (1, 1, 1)  # by default a host has 2x2x1
        try:
            return list(topologies.get_topology_desc(grid, platform="tpu", **said).devices)
        except Exception as error:
            raise ValueError(
                f"the TPU compiler has no {self.name} ({str(error).splitlines()[0][:200]}). It "
                "comes with the tpu extra: pip install 'grm-jax[tpu]'."
            ) from None
