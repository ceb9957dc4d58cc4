"""The figures of experiments: lines with bands, in one panel or several."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, LogLocator

from grm_jax.evals.intervals import Interval
from grm_jax.evals.plots import COLOURS, MARKERS, STYLE, svg

SPREAD = 0.04  # distance between the bars over one word, as a share of the axis
ROOM = 0.8  # of the place of a word, which all its bars take at most


@dataclass(frozen=True)
class Series:
    """A line: x -> a value with its interval (low = high = value: no band is known).

    `colour` is an index into COLOURS.
    """

    label: str
    points: Mapping[float, Interval]
    colour: int = 0
    dashed: bool = False

    @classmethod
    def plain(
        cls, label: str, points: Mapping[float, float], colour: int = 0, dashed: bool = False
    ) -> Series:
        """A line without intervals, such as the paper prints."""
        bare = {x: Interval(y, y, y) for x, y in points.items()}
        return cls(label, bare, colour, dashed)


@dataclass(frozen=True)
class Panel:
    """One pair of axes. With `names`, x is the index of a name and points are not joined; otherwise
    the axis of x is logarithmic, with a tick at every x (`ticks`) or at round numbers.
    """

    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    names: tuple[str, ...] = ()
    ticks: bool = True


@dataclass(frozen=True)
class Figure:
    """Panels side by side, each `width` inches wide. `name` is the stem of the file and the prefix
    of every id in the SVG."""

    name: str
    title: str
    panels: tuple[Panel, ...]
    width: float = 4.3


def draw_svg(figure: Figure) -> Markup:
    """An <svg> for a page; equal numbers give equal bytes."""
    with matplotlib.rc_context(STYLE):
        return svg(_draw(figure), figure.name, _in_words(figure))


def draw_png(figure: Figure, path: Path) -> None:
    """A picture on white, for places where an SVG cannot take the colours of the page."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        canvas = _draw(figure)
        canvas.savefig(
            buffer, format="png", dpi=160, facecolor="white", metadata={"Software": None}
        )
    path.write_bytes(buffer.getvalue())


def short(number: float) -> str:
    """A number of any size in few characters: 570496 is 570K."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:g}"


def _draw(figure: Figure) -> Canvas:
    count = len(figure.panels)
    canvas = Canvas(figsize=(figure.width * count, 3.4), layout="constrained", facecolor="none")
    for place, panel in enumerate(figure.panels, 1):
        axes = canvas.add_subplot(1, count, place)
        axes.set_facecolor("none")
        if panel.names:
            _words(axes, panel)
        else:
            _lines(axes, panel)
        axes.set_title(panel.title, fontsize=9)
        axes.set_xlabel(panel.x)
        axes.set_ylabel(panel.y)
        if panel.series:
            axes.legend(loc="best", fontsize=7.5)
    return canvas


def _lines(axes: Axes, panel: Panel) -> None:
    ticks = sorted({x for series in panel.series for x in series.points})
    for number, series in enumerate(panel.series):
        xs = sorted(series.points)
        colour = COLOURS[series.colour % len(COLOURS)]
        axes.plot(
            xs,
            [series.points[x].value for x in xs],
            label=series.label,
            color=colour,
            marker=MARKERS[number % len(MARKERS)],
            markersize=4,
            linestyle="--" if series.dashed else "-",
            linewidth=1.5,
        )
        low, high = ([getattr(series.points[x], end) for x in xs] for end in ("low", "high"))
        axes.fill_between(xs, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("log", base=2 if panel.ticks else 10)
    if panel.ticks:
        axes.set_xticks(ticks, labels=[f"{x:g}" for x in ticks])
    else:
        axes.xaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x)))
    axes.minorticks_off()


def _words(axes: Axes, panel: Panel) -> None:
    """Points with error bars over words."""
    middle = (len(panel.series) - 1) / 2
    apart = min(SPREAD * len(panel.names), ROOM / len(panel.series))
    for number, series in enumerate(panel.series):
        xs = sorted(series.points)
        values = [series.points[x] for x in xs]
        axes.errorbar(
            [x + apart * (number - middle) for x in xs],
            [v.value for v in values],
            yerr=[[v.value - v.low for v in values], [v.high - v.value for v in values]],
            label=series.label,
            color=COLOURS[series.colour % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            markersize=4.5,
            linestyle="none",
            capsize=2.5,
            elinewidth=1,
        )
    turned = sum(map(len, panel.names)) > 40
    axes.set_xticks(
        range(len(panel.names)),
        labels=list(panel.names),
        rotation=25 if turned else 0,
        ha="right" if turned else "center",
    )
    axes.set_xlim(-0.5, len(panel.names) - 0.5)


def _in_words(figure: Figure) -> str:
    """The text alternative of the figure."""
    return f"{figure.title}: " + " ".join(
        f"{panel.title}: {_ends(panel.series, panel.names)}." for panel in figure.panels
    )


def _ends(series: Sequence[Series], names: Sequence[str]) -> str:
    """The first and the last point of each line."""

    def name(x: float) -> str:
        return names[int(x)] if names else f"{x:g}"

    return "; ".join(
        f"{line.label} {line.points[min(line.points)].value:.1f} at {name(min(line.points))}, "
        f"{line.points[max(line.points)].value:.1f} at {name(max(line.points))}"
        for line in series
        if line.points
    )
