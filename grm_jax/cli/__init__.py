"""The `grm` command: finds the subcommand, reads its options, and says what went wrong."""

from __future__ import annotations

import os
import sys
import traceback
from importlib import import_module
from importlib.util import find_spec

from grm_jax import __version__
from grm_jax.cli.commands import OPTIONS
from grm_jax.cli.failures import explain, silence
from grm_jax.cli.options import read_options
from grm_jax.cluster import tpu_chips
from grm_jax.presets import by_name, meant

SUMMARY = {
    "judge": "judge responses: bundled examples, or the rows of a file",
    "serve": "judge over HTTP, in the forms that trainers ask for; with a page to try it",
    "eval": "measure a judge on a benchmark, or on rows with known answers",
    "compare": "compare two evaluations of the same rows: grm compare FOLDER FOLDER",
    "table": "verdicts, or evaluations, as CSV or Parquet: grm table SOURCE FILE",
    "train": "train a model: grm train sft, rft, grpo, meta-rm, scalar, or spct (all of it)",
    "export": "write a model, or an adapter, as a folder to publish, with a model card",
    "data": "make rows to train on: grm data math-pairs, grm data real",
    "experiment": "one of the paper's experiments: data, a table, a figure and a page",
    "aot": "compile for a TPU slice without one (many: grm aot matrix FILE); costs: grm aot cost",
    "bench": "measure speed here: grm bench sampler, judge or train",
    "env": "what is installed, which devices there are, and what would run where",
}
# The module with the `run` of each command. It imports jax, so it is imported only once the
# options are known to be right: a --help and a typo are answered at once.
RUN = {
    "judge": "grm_jax.cli.judge",
    "serve": "grm_jax.cli.serve",
    "eval": "grm_jax.cli.evaluate",
    "compare": "grm_jax.cli.compare",
    "table": "grm_jax.cli.table",
    "train": "grm_jax.cli.train",
    "export": "grm_jax.cli.export",
    "data": "grm_jax.cli.data",
    "experiment": "grm_jax.cli.experiment",
    "aot": "grm_jax.cli.aot",
    "aot matrix": "grm_jax.cli.aot_matrix",
    "aot cost": "grm_jax.cli.aot_cost",
    "bench": "grm_jax.cli.bench",
    "env": "grm_jax.cli.env",
}
# Commands that all processes of a job run together; the others run on one machine.
TOGETHER = ("judge", "eval", "train", "experiment")
# What compiles for its users; `aot` and `bench` are there to compile, and others never do.
KEEPING = (*TOGETHER, "data", "serve")
COMPILES_NOTHING = ("compare", "table", "env")
# Options that may be given without their names, as the first arguments.
POSITIONAL = {"compare": ("a", "b"), "table": ("source", "output")}
CLOSED = 141  # what a shell says of a process that SIGPIPE ended
# The last line after the traceback of an error that nobody expected.
BUG = "this is a bug in grm_jax {}, not a mistake of yours: please report it, with the lines above."


def main(arguments: list[str] | None = None) -> int:
    """Runs `grm ARGUMENTS`; returns the exit status: 0 done, 1 no result, 2 bad input.

    As with other commands, 130 is interrupted and 141 a closed output pipe (`| head`).
    """
    try:
        try:
            return _run(sys.argv[1:] if arguments is None else arguments)
        finally:
            sys.stdout.flush()  # here, where a closed pipe can still be handled
    except BrokenPipeError:
        pass
    except SystemExit as stop:
        if not isinstance(stop.__context__, BrokenPipeError):  # which is what rich turns one into
            raise
    silence()
    return _leave(CLOSED)


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0
    command, *rest = arguments
    if command == "--version":
        print(f"grm_jax {__version__}")
        return 0
    if command not in SUMMARY:
        near = meant(command, SUMMARY)
        print(f"grm: there is no command {command!r}.{near}\n\n{_usage()}", file=sys.stderr)
        return 2
    if command == "aot" and rest[:1] in (["matrix"], ["cost"]):
        command, rest = f"aot {rest[0]}", rest[1:]
        if command == "aot matrix" and rest and not rest[0].startswith("-"):
            rest = ["--config", *rest]
    first, second = POSITIONAL.get(command, ("", ""))
    if first and len(rest) > 1 and not any(r.startswith("-") for r in rest[:2]):
        rest = [f"--{first}", rest[0], f"--{second}", *rest[1:]]
    if command == "env" and rest[-1:] == ["--json"]:
        rest = [*rest[:-1], "--json=true"]
    if command == "bench" and not {"sampler", "judge", "train", "-h", "--help"}.intersection(rest):
        rest = ["sampler", *rest]
    _skip_tpu_search()
    try:
        given = by_name(command, [*map(_field, rest)])
        settings = read_options(OPTIONS[command], given, command)
        run = import_module(RUN[command]).run
        if command not in COMPILES_NOTHING:
            from grm_jax.cli.programs import forget_programs, keep_programs

            keep_programs() if command in KEEPING else forget_programs()
        if command in TOGETHER:
            from grm_jax import processes

            processes.start()
        return run(settings) or 0
    except KeyboardInterrupt:
        return _end(f"\ngrm {command}: stopped; the same command goes on from here.", 130)
    except BrokenPipeError:
        raise
    except Exception as error:
        if (known := explain(error)) is not None:
            return _end(f"grm {command}: {known[0]}", known[1])
        bug = f"grm {command}: {BUG.format(__version__)}"
        return _end(f"{traceback.format_exc()}\n{bug}", 1)


def _end(message: str, status: int) -> int:
    """Prints why the command ends; a process of a job leaves the job."""
    print(message, file=sys.stderr)
    return _leave(status)


def _leave(status: int) -> int:
    if "grm_jax.processes" in sys.modules:  # otherwise no job was joined
        from grm_jax import processes

        if processes.joined():
            processes.leave(status)
    return status


def _skip_tpu_search() -> None:
    """Keeps JAX from searching for a TPU where libtpu is installed only as a compiler (`grm aot`):
    that takes seconds and prints warnings. A platform that the user has set stays."""
    others = ("jax_cuda13_plugin", "jax_cuda12_plugin", "jax_rocm7_plugin")
    if find_spec("libtpu") and not tpu_chips() and not any(map(find_spec, others)):
        os.environ.setdefault("JAX_PLATFORMS", "cpu")


def _field(argument: str) -> str:
    """An option as its field is spelled: --meta-rm becomes --meta_rm."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"


def _usage() -> str:
    width = max(map(len, SUMMARY))
    commands = "\n".join(f"  grm {name:<{width}}  {text}" for name, text in SUMMARY.items())
    return (
        "grm: generative reward models that write principles, a critique and scores.\n\n"
        f"{commands}\n\nEach has a --help, and takes its options from a YAML file too (--config)."
    )
