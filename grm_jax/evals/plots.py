"""Figures for a page: SVG that goes into HTML as it is; equal numbers give equal bytes.

Lines are `currentColor` on a transparent background, so a figure takes the colours of its page.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Visible on white and on black, and distinct to most colour-blind eyes.
COLOURS = ("#8b929c", "#3f8fd6", "#e0792f", "#9a6bd0", "#3a9d68", "#c4577f")
MARKERS = "os^DvP"
# Stands for currentColor until the SVG is text: a colour that nothing else has.
INK = "#010203"
# Any, because matplotlib's stubs name every key, and only since 3.11.
STYLE: Any = {
    "svg.hashsalt": "grm",
    # Words stay words: smaller, searchable, and in the page's font.
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "grid.color": INK,
    "grid.alpha": 0.14,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
}
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


@dataclass(frozen=True)
class Line:
    """A line against the number of samples: for each k a percentage, and for `accuracy_plot` its
    standard error (nan: not known), for `scaling_plot` the ends of its interval."""

    label: str
    points: Mapping[int, tuple[float, ...]]
    colour: str
    dashed: bool = False


def accuracy_plot(name: str, lines: Sequence[Line]) -> Markup:
    """An <svg> of accuracy against the number of samples, with error bars of one standard error.

    Args:
        name: prefix of every id in the SVG, so that a page can have several.
        lines: with at least one point in all.
    """
    sizes = sorted({k for line in lines for k in line.points})
    with matplotlib.rc_context(STYLE):
        figure, axes = _empty(5.4, 3.3)
        for place, line in enumerate(lines):
            ks = sorted(line.points)
            # Shifted a little, or the bars of equal lines would hide each other.
            shift = 2 ** (0.07 * (place - (len(lines) - 1) / 2))
            axes.errorbar(
                [k * shift for k in ks],
                [line.points[k][0] for k in ks],
                yerr=[0.0 if math.isnan(line.points[k][1]) else line.points[k][1] for k in ks],
                label=line.label,
                color=line.colour,
                marker=MARKERS[place % len(MARKERS)],
                linestyle="--" if line.dashed else "-",
                linewidth=1.6,
                elinewidth=1,
                markersize=4.5,
                capsize=2.5,
            )
        _label_axes(axes, sizes, "samples per item, k", "accuracy, %")
        ends = "; ".join(
            f"{line.label} {line.points[min(line.points)][0]:.1f} % at k = {min(line.points)}, "
            f"{line.points[max(line.points)][0]:.1f} % at k = {max(line.points)}"
            for line in lines
        )
        return svg(figure, name, f"Accuracy against the number of samples: {ends}.")


def scaling_plot(name: str, unit: str, bands: Sequence[Line]) -> Markup:
    """An <svg> of a percentage against the number of samples, each line with its interval.

    Args:
        name: prefix of every id in the SVG.
        unit: what the percentage is.
        bands: with at least one point in all.
    """
    sizes = sorted({k for band in bands for k in band.points})
    with matplotlib.rc_context(STYLE):
        figure, axes = _empty(5.4, 3.3)
        for place, band in enumerate(bands):
            ks = sorted(band.points)
            value, low, high = zip(*(band.points[k] for k in ks), strict=True)
            axes.fill_between(ks, low, high, color=band.colour, alpha=0.16, linewidth=0)
            axes.plot(
                ks,
                value,
                label=band.label,
                color=band.colour,
                marker=MARKERS[place % len(MARKERS)],
                linestyle="--" if band.dashed else "-",
                linewidth=1.6,
                markersize=4.5,
            )
        _label_axes(axes, sizes, "samples per row, k", f"{unit}, %")
        ends = "; ".join(
            f"{band.label} {band.points[k][0]:.1f} % at k = {k}"
            for band in bands
            for k in sorted({min(band.points), max(band.points)})
        )
        return svg(figure, name, f"{unit} against the number of samples: {ends}.")


def curve(
    name: str, title: str, steps: Sequence[int], values: Sequence[float], colour: str = COLOURS[1]
) -> Markup | None:
    """An <svg> of a number over steps: every value, faintly, and the running mean; None without a
    finite value. `title` appears only in the text alternative."""
    heights = np.array([v if math.isfinite(v) else math.nan for v in values], np.float64)
    if not np.isfinite(heights).any():
        return None
    smoothed = smooth(heights)
    with matplotlib.rc_context(STYLE):
        figure, axes = _empty(3.4, 2.1)
        lone = len(heights) == 1
        axes.plot(steps, heights, color=colour, alpha=0.3, linewidth=0.8, marker="o" * lone)
        axes.plot(steps, smoothed, color=colour, linewidth=1.6)
        axes.set_xlabel("step")
        axes.locator_params(nbins=5)
        known = smoothed[np.isfinite(smoothed)]
        return svg(
            figure,
            name,
            f"{title} over {len(steps)} steps: from {known[0]:.3g} to {known[-1]:.3g}, smoothed.",
        )


def reliability_plot(name: str, bins: Sequence[tuple[float, float, int]]) -> Markup:
    """An <svg> of the share of right judgments in each bin against the predicted share, with the
    diagonal of a calibrated model."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _empty(3.4, 2.9)
        axes.plot([0, 1], [0, 1], color=INK, alpha=0.45, linewidth=0.9, linestyle="--")
        predicted, right = [b[0] for b in bins], [b[1] for b in bins]
        axes.plot(predicted, right, color=COLOURS[3], marker="o", markersize=4.5, linewidth=1.4)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.set_xlabel("predicted chance of being right")
        axes.set_ylabel("share that is right")
        shares = ", ".join(f"{p:.2f} → {r:.2f}" for p, r, _ in bins)
        return svg(figure, name, f"Predicted chance → share that is right, per bin: {shares}.")


def smooth(values: np.ndarray) -> np.ndarray:
    """The running mean over a twenty-fifth of the values, centred; nan counts as absent."""
    window = np.ones(2 * (len(values) // 50) + 1)
    known = np.isfinite(values)
    total = np.convolve(np.where(known, values, 0.0), window, "same")
    count = np.convolve(known.astype(np.float64), window, "same")
    return np.where(count > 0, total / np.maximum(count, 1), math.nan)


def _label_axes(axes: Axes, sizes: Sequence[int], x: str, y: str) -> None:
    """Labels, a legend, and a tick at every number of samples."""
    axes.set_xscale("log", base=2)
    axes.set_xlim(sizes[0] / 1.25, sizes[-1] * 1.25)
    axes.set_xticks(sizes, labels=[str(k) for k in sizes])
    axes.minorticks_off()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend(loc="best")


def _empty(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    return figure, axes


def svg(figure: Figure, name: str, words: str) -> Markup:
    """The figure as one <svg> element with a text alternative."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=_NO_METADATA)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # A style element would apply to the whole page, which has these rules of its own.
    text = re.sub(r"<style.*?</style>|<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = text.replace(INK, "currentColor").replace("xlink:href", "href")
    text = text.replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "")
    # Figures on one page must not share ids.
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(url\(|href=")#', rf"\1#{name}-", text)
    head, rest = text.split(">", 1)
    return Markup(f'{head} role="img" aria-label="{escape(words)}">{rest.strip()}')
