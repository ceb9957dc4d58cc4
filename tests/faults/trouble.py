"""A full disk, two processes on one output, numbers that are not finite."""

import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from grm_jax.judging.folder import bundled
from tests.faults.compare import compare
from tests.faults.kills import undisturbed
from tests.faults.process import Command, run, until
from tests.faults.rounds import Round
from tests.faults.scenes import Scene


def full_disk(scene: Scene, work: Path, size: str) -> Round:
    """The disk is full in the middle; with room again, the same command ends as it should."""
    result = Round(f"{scene.name}: disk full", 0)
    whole, log = undisturbed(scene, work), work / "full.log"
    disk = work / "disk" / scene.name
    with _small_disk(disk, size) as grow:
        if grow is None:
            result.what += " (not run: it needs the right to mount)"
            return result
        output = disk / scene.name
        command = run(scene.arguments(output), log)
        result.count = 1
        if command.poll() == 0:
            result.different.append(f"{size} were enough: nothing was tested")
        if "Traceback" in command.said or "No space left" not in command.said:
            result.different.append(f"no sentence: {command.said[-500:]}")
        grow("64m")
        command = run(scene.arguments(output), log)
        if command.poll() != 0:
            result.different.append(f"exit {command.poll()} with room: {command.said[-500:]}")
        result.add(compare(output, whole))
    return result


@contextmanager
def _small_disk(folder: Path, size: str):
    """A file system of that size in memory, and what makes it larger; None without the rights."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        yield None
        return

    def grow(size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)

    try:
        yield grow
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def two_at_once(scene: Scene, work: Path) -> Round:
    """A second process on the same output is refused in a sentence; the first one ends well."""
    result = Round(f"{scene.name}: two processes at once", 1)
    whole, output = undisturbed(scene, work), work / "two" / scene.name
    first = Command(scene.arguments(output), work / "two-first.log")
    until(lambda: output.exists() and any(output.iterdir()), first)
    second = run(scene.arguments(output), work / "two-second.log")
    status = first.wait()
    if status != 0:
        result.different.append(f"the first: exit {status}: {first.said[-500:]}")
    if second.poll() == 0 or "Traceback" in second.said or "another process" not in second.said:
        result.different.append(f"the second: exit {second.poll()}: {second.said[-500:]}")
    result.add(compare(output, whole))
    return result


def not_finite(scene: Scene, work: Path) -> Round:
    """Weights that are not finite are refused; steps that are not are not applied, and after some
    in a row the run stops without having made a model, its last good checkpoint in place."""
    result = Round("numbers that are not finite", 2)
    model = work / "nan"
    shutil.copytree(bundled("tiny-start"), model)
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"] = np.full_like(weights["model.norm.weight"], np.nan)
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    refused = run([*scene.arguments(work / "from-nan"), "--start", str(model)], work / "nan.log")
    if refused.poll() == 0 or "Traceback" in refused.said or "finite" not in refused.said:
        result.different.append(f"NaN weights: exit {refused.poll()}: {refused.said[-500:]}")
    output = work / "far-too-fast"
    rate = ["--stages.first.optimizer.learning_rate", "1.0e+30"]
    longer = ["--stages.first.steps", "40", "--checkpoint.every", "1"]
    stopped = run([*scene.arguments(output), *rate, *longer], work / "nan.log")
    if stopped.poll() == 0 or "Traceback" in stopped.said or "finite" not in stopped.said:
        result.different.append(f"1e30: exit {stopped.poll()}: {stopped.said[-500:]}")
    if list(output.rglob("model.safetensors")):
        result.different.append("1e30: a model was made all the same")
    made = (output / "first" / "metrics.jsonl").read_text().count("\n")
    if made >= 40:
        result.different.append(f"1e30: all {made} steps were made")
    return result
