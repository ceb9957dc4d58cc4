"""The options of commands that only look at what is there; nothing here needs jax."""

from __future__ import annotations

from dataclasses import dataclass

# What the name of a table ends in.
TABLES = (".csv", ".parquet")


@dataclass(frozen=True)
class TableCommand:
    """Write verdicts, or evaluations, as a flat table: grm table SOURCE FILE.

    Of verdicts there is a row for each response; of evaluations one for each benchmark, cell, vote
    and k, with its 95 % interval. Prompts, responses and critiques are not in it.

    Args:
        source: The file that `grm judge` wrote, finished or not; or the folder of `grm eval`, or
            one with several of these in it.
        output: The file, whose name ends in .csv or .parquet.
    """

    source: str
    output: str

    def __post_init__(self) -> None:
        if not self.output.endswith(TABLES):
            raise ValueError(
                f"output is {self.output}: give a name that ends in {' or '.join(TABLES)}."
            )


@dataclass(frozen=True)
class EnvCommand:
    """Say what is installed, which devices there are, and what would run where.

    Args:
        json: Print it as JSON, for a script or a bug report; --json alone is true.
    """

    json: bool = False
