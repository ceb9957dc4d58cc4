"""`grm data`: labelled pairs from problems whose answers are known, and items of real text."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from grm_jax.cli.commands import MathPairsConfig
from grm_jax.data.config import ItemsConfig
from grm_jax.data.math_pairs import Problem, pairs_of, to_problem
from grm_jax.data.real.config import RealDataConfig
from grm_jax.data.real.writing import write_real_data
from grm_jax.data.sources import load_examples
from grm_jax.devices import say_devices
from grm_jax.judging.answers import EndpointAnswers, ModelAnswers, Question
from grm_jax.judging.folder import load_model_folder
from grm_jax.judging.judgment import Refusal
from grm_jax.outputs import write_whole
from grm_jax.progress import counted, progress
from grm_jax.text.json_line import json_line
from grm_jax.train.folder import run_folder

SHOWN = 3  # failed rows and questions that are shown, with the reason


def run(cfg: MathPairsConfig | RealDataConfig) -> int:
    """Makes pairs of the problems, with the answers that are missing, or items of real text; 1
    without a pair or with problems left unanswered."""
    if isinstance(cfg, RealDataConfig):
        with run_folder("grm data real", cfg.output, cfg) as folder:
            made = write_real_data(cfg, folder)["items"]
            print(f"{folder}: " + ", ".join(f"{n} {name}" for name, n in made.items()))
            return 0
    with run_folder("grm data math-pairs", cfg.output, cfg) as folder:
        return _run(cfg, folder)


def _run(cfg: MathPairsConfig, folder: Path) -> int:
    """As `run`, in a folder that is claimed."""
    counts: Counter[str] = Counter()
    problems = {problem.id: problem for problem in _problems(cfg, counts)}
    counts["problems"] = len(problems)
    open_ones = [problem for problem in problems.values() if not problem.answers]
    answered = _Answers(folder / "answers.jsonl", {problem.id for problem in open_ones})
    left = [problem for problem in open_ones if problem.id not in answered.places]
    if left:
        _answer(cfg, left, answered, counts)
    _write(folder / "pairs.jsonl", _pairs(cfg, [*problems.values()], answered, counts))
    write_whole(folder / "report.json", json.dumps(dict(counts), indent=2) + "\n")
    print(f"{folder / 'pairs.jsonl'}: " + ", ".join(f"{n} {name}" for name, n in counts.items()))
    return 0 if counts["pairs"] and not counts["problems without answers"] else 1


def _sources(given: tuple[ItemsConfig, ...] | str) -> tuple[ItemsConfig, ...]:
    return (ItemsConfig(given),) if isinstance(given, str) else given


def _problems(cfg: MathPairsConfig, counts: Counter[str]) -> Iterator[Problem]:
    """The problems of all sources; other rows are counted, and the first ones shown."""
    for items in _sources(cfg.input):
        rows = load_examples(
            items.source, split=items.split, name=items.name, data_dir=items.data_dir
        )
        taken = 0
        for path, line, row in rows.raw():
            try:
                if isinstance(row, ValueError):
                    raise row
                problem = to_problem(row)
            except ValueError as error:
                counts["rows that are no problems"] += 1
                if counts["rows that are no problems"] <= SHOWN:
                    tqdm.write(f"{path}:{line}: {error}")
                continue
            taken += 1
            if taken > items.start:
                yield problem
            if items.limit is not None and taken == items.start + items.limit:
                break
        if taken <= items.start:
            raise ValueError(f"there are no problems in {items}, or only what start passes over.")


def _answer(
    cfg: MathPairsConfig, left: list[Problem], answered: _Answers, counts: Counter[str]
) -> None:
    """Asks for the missing answers; counts the problems that get none."""
    questions = (Question(p.id, f"{p.text}\n\n{cfg.instruction}".strip()) for p in left)
    source = open_answers(cfg)
    with progress("answers", "problem", len(left)) as advance:
        for result in source.answer_all(questions, cfg.answers):
            advance(1)
            if isinstance(result, Refusal):
                counts["problems without answers"] += 1
                if counts["problems without answers"] <= SHOWN:
                    tqdm.write(f"{result.id}: {result.error}")
            else:
                answered.add({"id": result.id, "answers": list(result.texts)})


def open_answers(cfg: MathPairsConfig) -> ModelAnswers | EndpointAnswers:
    """Who answers: the model or the server of a config.

    Raises:
        ValueError: it names none.
    """
    if cfg.endpoint is not None:
        return EndpointAnswers(cfg.endpoint, seed=cfg.seed)
    if cfg.model is None:
        raise ValueError(
            "the rows hold no answers: name a --model or an --endpoint.url that answers, or give "
            "rows with answers in a column of that name."
        )
    say_devices(cfg.mesh)
    return ModelAnswers(
        load_model_folder(cfg.model, mesh=cfg.mesh),
        strategy=cfg.strategy,
        seed=cfg.seed,
        max_new_tokens=cfg.max_new_tokens,
        slots=cfg.slots,
    )


def _pairs(
    cfg: MathPairsConfig, problems: Sequence[Problem], answered: _Answers, counts: Counter[str]
) -> Iterator[dict[str, Any]]:
    """The pairs, in the order of the problems."""
    for problem in counted(problems, "matching", "problem"):
        answers = problem.answers or answered.of(problem.id)
        for pair in pairs_of(problem, answers, cfg.pairs, cfg.seed, counts):
            counts["pairs"] += 1
            yield pair


class _Answers:
    """The file of sampled answers: a line per problem, appended as each is answered.

    places: where the line of each problem begins. A line cut short by a kill is removed.
    """

    def __init__(self, path: Path, wanted: set[str]):
        self.path, self.places = path, {}
        size = 0
        if path.exists():
            with path.open("rb") as file:
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    name = json.loads(line)["id"]
                    if name in wanted:
                        self.places[name] = size
                    size += len(line)
            os.truncate(path, size)

    def add(self, row: dict[str, Any]) -> None:
        """Appends a line; what is written survives a kill of the process."""
        with self.path.open("ab") as file:
            self.places[row["id"]] = file.tell()
            file.write(json_line(row).encode())

    def of(self, name: str) -> tuple[str, ...]:
        """The answers to a problem; none where it has no line."""
        if name not in self.places:
            return ()
        with self.path.open("rb") as file:
            file.seek(self.places[name])
            return tuple(json.loads(file.readline())["answers"])


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes JSON lines; the file gets its name when it is complete."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        file.writelines(map(json_line, rows))
    os.replace(part, path)
