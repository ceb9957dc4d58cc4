"""Links, anchors and paths on the pages lead somewhere; what leads out is for `make linkcheck`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(
    [*DOCS.rglob("*.md"), *ROOT.glob("*.md"), ROOT / "tests/README.md", ROOT / "launch/README.md"]
)
# What a path in a sentence begins with, and what it may leave open.
TREE = r"(?:grm_jax|tests|docs|configs|launch|notebooks)/"
OPEN = re.compile(r"[*<>{}A-Z]{3,}|\.\.|[*<>{}]")


def links(text: str) -> list[str]:
    """The targets of [text](target), but not those of examples in code."""
    text = re.sub(r"^```(?!\{).*?^```", "", text, flags=re.M | re.S)
    return re.findall(r"\]\(([^)\s]+)\)", text)


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as GitHub and MyST make them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    plain = (re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads)
    return set(plain)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page.read_text()):
        if re.match(r"https?://|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        assert target.is_relative_to(ROOT), f"{link} leads out of the checkout"
        assert not anchor or anchor in anchors(target), f"{link}: there is no such heading"
    for name in re.findall(r"\{doc\}`(?:[^<`]*<)?([^>`]+)>?`", page.read_text()):
        found = [page.parent / f"{name}.{kind}" for kind in ("md", "ipynb")]
        assert any(map(Path.exists, found)), f"{name} is no page"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_in_sentences_are_there(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        return  # tells of what was there
    for path in re.findall(rf"`({TREE}[^`\s]+)`", page.read_text()):
        if not OPEN.search(path):
            assert (ROOT / path).exists(), f"{path} is not there"


def test_every_page_and_every_notebook_is_in_the_table_of_contents() -> None:
    contents = (DOCS / "index.md").read_text()
    listed = {
        line
        for block in re.findall(r"```\{toctree\}\n(.*?)```", contents, re.S)
        for line in block.splitlines()
        if line and not line.startswith(":")
    }
    pages = {p.relative_to(DOCS).with_suffix("") for p in PAGES if p.is_relative_to(DOCS)}
    notebooks = {Path("notebooks") / p.stem for p in (ROOT / "notebooks").glob("*.ipynb")}
    assert listed == {str(page) for page in pages | notebooks} - {"index"}
    assert (DOCS / "notebooks").resolve() == ROOT / "notebooks"  # so that the site has them
