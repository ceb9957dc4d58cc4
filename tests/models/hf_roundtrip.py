"""The two halves of test_hf_memory.py, each a process of its own, whose memory is then its own.

python hf_roundtrip.py write SIZE FOLDER: a model folder of random bfloat16 weights, written by the
safetensors library. python hf_roundtrip.py judge FOLDER OUT: loads it over eight devices, draws a
judgment, exports it, and prints what memory that took.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from grm_jax.judging.folder import bundled
from grm_jax.judging.judge import Judge
from grm_jax.mesh import MeshConfig
from grm_jax.models.config import PRESETS, Gemma2Config
from grm_jax.models.hf import save_folder
from grm_jax.models.hf_config import config_to_hf
from grm_jax.models.hf_layout import places, with_shapes
from grm_jax.models.hf_tensors import INDEX
from grm_jax.models.model import Model
from grm_jax.text.messages import Example

SIZES = {"2b": PRESETS["2b"], "small": Gemma2Config(32_000, 12, 1024, 4096, 8, 4, 128, 128.0)}
FILE_BYTES = 1.5e9
MESH = MeshConfig(data=2, fsdp=1, tensor=4)  # 2B has four key-value heads
ROWS = 4  # two per device: for one alone, XLA would make an f32 copy of the vocabulary's table
NEW_TOKENS = 4
EXAMPLE = Example(prompt="What is 37+48?", responses=["85", "84"])


def write(size: str, folder: Path) -> None:
    """File by file, with one file's tensors in memory at a time."""
    folder.mkdir()
    model = Model(SIZES[size], dtype="bfloat16", param_dtype="bfloat16")
    rng = np.random.default_rng(0)
    weight_map: dict[str, str] = {}
    tensors: dict[str, np.ndarray] = {}
    number, room = 1, FILE_BYTES
    for place, shape in with_shapes(places(model.config, "lm"), model.abstract()):
        for name in place.names:
            # Any sign and fraction; exponents of 2**-7 and 2**-6.
            bits = rng.integers(0, 2**16, shape, np.uint16) & 0x80FF | 0x3C00
            if bits.nbytes > room:
                _close(folder / _name(number), tensors)
                number, room = number + 1, FILE_BYTES
            tensors[name], weight_map[name] = bits, _name(number)
            room -= bits.nbytes
    _close(folder / _name(number), tensors)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    config = config_to_hf(model.config, "lm", "bfloat16")
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(bundled("tiny") / name, folder / name)
    shutil.copytree(bundled("tiny") / "templates", folder / "templates")


def _name(number: int) -> str:
    return f"model-{number:05d}.safetensors"


def _close(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Writes a file, and forgets its tensors."""
    import torch  # here, for its memory is none of the other half's
    from safetensors.torch import save_file

    typed = {
        name: torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)
        for name, bits in tensors.items()
    }
    save_file(typed, path, {"format": "pt"})
    tensors.clear()


def judge(folder: Path, out: Path) -> dict[str, Any]:
    """Memory of the process in bytes: before, and the peak after each part; seconds since."""
    jax.block_until_ready(jax.numpy.zeros(3) + 1)
    report: dict[str, Any] = {"devices": jax.device_count(), "before": _memory("VmRSS")}
    began = time.monotonic()

    def note(part: str) -> None:
        report[part] = _memory("VmHWM")
        report[f"{part}_seconds"] = round(time.monotonic() - began, 1)

    judge = Judge.load(
        folder, mesh=MESH, dtype="bfloat16", slots=ROWS, max_new_tokens=NEW_TOKENS, seed=0
    )
    model, params = judge.folder.model, jax.block_until_ready(judge.folder.params)
    note("loaded")
    (sampled,) = judge.sample_all([EXAMPLE], k=1)
    report["tokens"] = [judgment.tokens for judgment in sampled.judgments]
    note("judged")
    save_folder(model, params, out)
    note("exported")
    return report


def _memory(key: str) -> int:
    """Bytes, by Linux. VmHWM is the peak of this process alone; ru_maxrss would inherit the peak
    of the one that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(sys.argv[2], Path(sys.argv[3]))
    else:
        print(json.dumps(judge(Path(sys.argv[2]), Path(sys.argv[3]))))
