"""Verdicts on the terminal: the question, each response's scores, and one critique."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from rich.console import Console, Group
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from grm_jax.data.sources import BadRow
from grm_jax.judging.judgment import Judgment, Refusal, Verdict
from grm_jax.text.messages import Example

BAR = 20  # characters of the longest bar


class Showcase:
    """Prints each verdict as a panel; then calls `on_row` with 1."""

    def __init__(self, console: Console | None = None):
        self._console = console or Console()
        self._under_way: dict[str, Example] = {}
        self.on_row: Callable[[int], object] = lambda count: None

    def __enter__(self) -> Showcase:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def left(self, rows: Iterable[Example | BadRow]) -> Iterator[Example]:
        """The rows that can be judged; prints why the others cannot."""
        for row in rows:
            if isinstance(row, BadRow):
                self._print(Refusal(row.id, str(row)), None)
            else:
                self._under_way[row.id] = row
                yield row

    def write(self, result: Verdict | Refusal) -> None:
        """Prints one result under its question."""
        self._print(result, self._under_way.pop(result.id))

    def finish(self, *, limited: bool) -> None:
        """Nothing is left to do."""

    def _print(self, result: Verdict | Refusal, example: Example | None) -> None:
        self._console.print(self._panel(result, example))
        self.on_row(1)

    def _panel(self, result: Verdict | Refusal, example: Example | None) -> Panel:
        title = escape(_plain(result.id if example is None else example.prompt[-1].content))
        if isinstance(result, Refusal) or example is None:
            body = Text(result.error if isinstance(result, Refusal) else "", style="red")
            return Panel(body, title=title, title_align="left", border_style="red")
        parts = [_scores(result, example), Text(_summary(result), style="dim")]
        if example.label is not None and example.n > 1:
            parts.append(_gold(result, example.label))
        shown = _most_typical(result)
        if shown is not None and shown.text:
            parts.append(_critique(shown))
        return Panel(Group(*parts), title=f"[bold]{title}", title_align="left")


def _scores(verdict: Verdict, example: Example) -> Table:
    """One line per response, best first: mark, text, mean score, bar, and each sample's score (in
    brackets if the meta RM left the sample out)."""
    table = Table(box=None, show_header=False, padding=(0, 1))
    full = max(10, *verdict.mean_scores)  # another scale, or a reward, may go beyond 10
    for index in verdict.ranking:
        mean = verdict.mean_scores[index]
        bar = "█" * round(mean / full * BAR)
        votes = [
            _number(j.scores[index]) if j.counted else f"({_number(j.scores[index])})"
            for j in verdict.judgments
            if j.scores is not None
        ]
        table.add_row(
            "[bold green]✔" if index in verdict.tied else "",
            _response(verdict, example, index),
            f"{mean:.1f}",
            Text(bar, style="green" if index in verdict.tied else "blue"),
            Text(" ".join(votes), style="dim"),
        )
    return table


def _number(score: float) -> str:
    """A score as it was written, or a reward or a probability in a few digits."""
    return str(score) if isinstance(score, int) else f"{score:.2f}"


def _response(verdict: Verdict, example: Example, index: int) -> Text:
    """The response in one line, or why there is nothing to judge in it."""
    if index in verdict.degenerate:
        return Text(f"({verdict.degenerate[index]})", style="dim italic")
    return Text(_short(example.responses[index]))


def _summary(verdict: Verdict) -> str:
    summary = f"{verdict.valid} of {verdict.k} critiques readable"
    for reason, count in verdict.invalid_reasons.items():
        summary += f", {count} {reason}"
    if any(j.meta is not None for j in verdict.judgments):
        summary += f"; the meta RM counts the better {verdict.counted}"
    if len(verdict.tied) > 1:
        return f"{summary}; {len(verdict.tied)} responses share the highest sum"
    return (
        f"{summary}; ahead by {verdict.margin:.1f} points" if len(verdict.scores) > 1 else summary
    )


def _gold(verdict: Verdict, label: int) -> Text:
    """Whether the verdict agrees with the row's label."""
    if verdict.tied == (label,):
        return Text("agrees with the label", style="green")
    rank = verdict.ranking.index(label) + 1
    if label in verdict.tied:
        return Text("the labelled best shares the highest sum", style="yellow")
    return Text(f"the labelled best came in at place {rank}", style="red")


def _most_typical(verdict: Verdict) -> Judgment | None:
    """The counted critique whose scores are nearest to the mean ones."""

    def distance(judgment: Judgment) -> float:
        pairs = zip(judgment.scores or (), verdict.mean_scores, strict=True)
        return sum(abs(score - mean) for score, mean in pairs)

    return min((j for j in verdict.judgments if j.counted), key=distance, default=None)


def _critique(judgment: Judgment) -> Text:
    order = ", ".join(str(index + 1) for index in judgment.order)
    shown = f" (it saw the responses in the order {order})" if len(judgment.order) > 1 else ""
    rated = "" if judgment.meta is None else f", rated {judgment.meta:+.1f}"
    text = Text(f"\nCritique {judgment.sample + 1}{rated}{shown}\n", style="dim")
    text.append(f"Principles: {_plain(judgment.principles)}\n", style="default")
    return text.append(_plain(judgment.critique), style="default")


def _plain(text: str) -> str:
    """The text without control characters: a response may hold escape codes for the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _short(text: str, limit: int = 70) -> str:
    line = _plain(" ".join(text.split()))
    return line if len(line) <= limit else line[: limit - 1] + "…"
