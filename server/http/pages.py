"""The files of our pages, and what browsers are told about them."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

__all__ = ["icon", "page", "static"]

STATIC = Path(__file__).parent.with_name("static")
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob: mediastream:; "
    "connect-src 'self'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def page(name: str) -> web.FileResponse:
    """One of the pages."""
    return web.FileResponse(STATIC / name, headers=HEADERS)


async def icon(request: web.Request) -> web.StreamResponse:
    """The icon."""
    return web.FileResponse(STATIC / "icon.svg", headers={"Content-Type": "image/svg+xml"})


async def static(request: web.Request) -> web.StreamResponse:
    """A file of the page; only what lies directly in the folder."""
    files = {path.name: path for path in STATIC.iterdir() if path.is_file()}
    path = files.get(request.match_info["file"])
    if path is None:
        raise web.HTTPNotFound
    return web.FileResponse(path, headers=HEADERS)
