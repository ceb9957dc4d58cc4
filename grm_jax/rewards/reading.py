"""What trainers hand over as rows: prompts and completions, and the columns beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from grm_jax.rewards.rows import Row

Columns = Mapping[str, Any]


@dataclass(frozen=True)
class Reader:
    """Which columns are read; as for `JudgeReward`."""

    reference: str | None = None
    principles: str | None = None
    applies: Callable[[Columns], bool] | None = None
    question: str = "question"

    def rows(
        self, prompts: Sequence[Any], completions: Sequence[Any], columns: Columns
    ) -> list[Row | None]:
        """A row for each completion; None where there is no reward for it.

        columns: lists as long as `prompts`; anything else is passed over.

        Raises:
            ValueError: a column is missing, or there are not as many prompts as completions.
        """
        if len(prompts) != len(completions):
            raise ValueError(
                f"there are {len(prompts)} prompts and {len(completions)} completions: each "
                "completion needs its own."
            )
        sized = {
            name: column
            for name, column in columns.items()
            if isinstance(column, list | tuple | np.ndarray) and len(column) == len(prompts)
        }
        return [
            self.row(prompt, completion, {name: column[i] for name, column in sized.items()})
            for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True))
        ]

    def row(self, prompt: Any, completion: Any, columns: Columns) -> Row | None:
        """One of them, with its own columns."""
        if self.applies is not None and not self.applies(columns):
            return None
        wanted = (self.reference, self.principles)
        if missing := [name for name in wanted if name is not None and name not in columns]:
            raise ValueError(
                f"there is no column {missing[0]!r}, but {', '.join(columns) or 'none'}: name "
                "the one that the trainer hands over."
            )
        reference, principles = (None if name is None else columns[name] for name in wanted)
        return Row(prompt, completion, reference, principles)

    def required(self, prompt: Any, completion: Any, columns: Columns) -> Row:
        """The same for a trainer that needs a reward for each.

        Raises:
            ValueError: there is none for this one, or a column is missing.
        """
        row = self.row(prompt, completion, columns)
        if row is None:
            raise ValueError(
                "there is no reward for this row, says `applies`, and this trainer has no word for "
                "that: use another reward for such rows."
            )
        return row

    def of_verl(
        self, data_source: str, solution: str, ground_truth: Any, extra_info: Columns | None
    ) -> Row:
        """What verl hands over, which is not the prompt.

        Raises:
            ValueError: it is not in `extra_info` either; or as `required`.
        """
        extra = extra_info or {}
        if extra.get(self.question) is None:
            raise ValueError(
                f"extra_info has no {self.question!r}, but {', '.join(extra) or 'nothing'}: verl "
                "does not hand over the prompt, so put it there when the data is made."
            )
        columns = {"data_source": data_source, "ground_truth": ground_truth, **extra}
        return self.required(extra[self.question], solution, columns)
