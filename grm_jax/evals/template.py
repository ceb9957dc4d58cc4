"""Pages from templates: HTML in one file, in which everything that models wrote is plain text."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

LAYOUT = Path(__file__).parent / "templates"  # which has layout.html, with the styles of all pages
LONGEST = 6000  # characters of a text that a page shows


def render(path: Path, filters: Mapping[str, Callable[..., Any]], **values: Any) -> str:
    """The template with these values; every text among them is escaped, and none may be missing.

    The template may extend and import others in its folder, and layout.html.
    """
    environment = Environment(
        loader=FileSystemLoader([path.parent, LAYOUT]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(path.name).render(**values)


def write(path: Path, page: str) -> Path:
    """Writes a page completely or not at all."""
    part = path.with_name(f"{path.name}.part")
    # JSON may contain lone surrogates, which cannot be written as UTF-8.
    part.write_bytes(page.encode("utf-8", errors="replace"))
    os.replace(part, path)
    return path


def is_known(value: Any) -> bool:
    """Whether there is a value; a number has to be finite."""
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def _percent(share: float | None) -> str:
    return f"{100 * share:.1f} %" if share is not None and is_known(share) else "–"


def _clip(text: str) -> str:
    left = len(text) - LONGEST
    return text if left <= 0 else f"{text[:LONGEST]} … ({left:,} more characters)"


def _duration(seconds: float) -> str:
    """A duration in its two largest units."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


FILTERS: Mapping[str, Callable[..., Any]] = {
    "percent": _percent,
    "number": lambda x: f"{x:,.0f}" if is_known(x) else "–",
    "clip": _clip,
    "duration": _duration,
}
