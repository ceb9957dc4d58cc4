"""SIGKILL and SIGTERM at any time: the same command goes on and ends with the same bytes."""

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

from tests.faults.compare import compare
from tests.faults.process import Command, run, until
from tests.faults.rounds import Round
from tests.faults.scenes import Scene


def undisturbed(scene: Scene, work: Path) -> Path:
    """The output of the command when nothing happens to it, made once."""
    output = work / "whole" / scene.name
    if not output.exists():
        command = run(scene.arguments(output), work / f"{scene.name}.log")
        if command.poll() != 0:
            raise RuntimeError(f"grm {scene.name} fails undisturbed:\n{command.said[-2000:]}")
    return output


def kill(scene: Scene, work: Path, kills: int, seed: int = 0) -> Round:
    """So many kills at random places, over as many outputs as it takes.

    A place is a number of lines and files written, and a moment after them; one in five is any
    moment after the start.
    """
    whole = undisturbed(scene, work)
    log = work / f"{scene.name}-killed.log"
    rng = random.Random(f"{scene.name}/{seed}")
    total, done, number, result = _written(whole), 0, 0, Round(f"{scene.name}: killed", kills)
    while done < kills:
        number += 1
        if number > 4 * kills:
            raise RuntimeError(f"grm {scene.name} ends before it can be killed")
        output, going = work / "killed" / str(number) / scene.name, True  # pages show the name
        while done < kills and going:
            going = _kill_once(Command(scene.arguments(output), log), output, total, rng)
            done += going
        last = run(scene.arguments(output), log)
        if last.poll() != 0:
            result.different.append(f"exit {last.poll()}: {last.said.strip()[-300:]}")
        result.add(compare(output, whole))
    return result


def _kill_once(command: Command, output: Path, total: int, rng: random.Random) -> bool:
    """Kills the command somewhere; False if it ended by itself before."""
    delay = rng.uniform(0.0, 0.4)
    if rng.random() < 0.2:
        delay = rng.uniform(0.2, 6)
    else:
        goal = rng.randint(_written(output) + 1, max(total, _written(output) + 1))
        if not until(lambda: _written(output) >= goal, command):
            return False
    time.sleep(delay)
    if command.poll() is not None:
        return False
    command.send(rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
    command.wait()
    return True


def _written(folder: Path) -> int:
    """How many files there are, and lines in those that grow line by line."""
    count = 0
    for inside, _, names in os.walk(folder):  # which takes no offence at what goes meanwhile
        count += len(names)
        for name in names:
            if ".jsonl" in name:
                with suppress(FileNotFoundError):  # it was renamed
                    count += Path(inside, name).read_bytes().count(b"\n")
    return count
