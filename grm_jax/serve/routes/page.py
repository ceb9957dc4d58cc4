"""The page at /: static files, nothing of which comes from anywhere else."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import Response

_FOLDER = Path(__file__).parent.parent / "page"
_FILES = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}


def routes() -> APIRouter:
    """The routes of the three files, which are read once."""
    router = APIRouter(include_in_schema=False)
    for path, (name, kind) in _FILES.items():
        router.get(path)(_given((_FOLDER / name).read_bytes(), kind))
    return router


def _given(content: bytes, kind: str):
    async def file() -> Response:
        return Response(content, media_type=kind)

    return file
