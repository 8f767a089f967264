"""Bodies of requests that stop coming: whoever waits for one is told, so that half-open connections hold no places."""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

__all__ = ["stall_guard"]

STALLED_S = 30.0


def stall_guard(but: str = "") -> Middleware:
    """For aiohttp: a body of which nothing comes for `STALLED_S` ends its request with 408.

    Args:
        but: paths that begin like this are left alone: there bodies may be long in coming.
    """

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.can_read_body or (but and request.path.startswith(but)):
            return await handler(request)
        watching = asyncio.create_task(_watch(request, STALLED_S), name="request-body")
        try:
            return await handler(request)
        finally:
            watching.cancel()
            await asyncio.wait([watching])
            if request.content.exception() is not None:  # the connection ends with the answer, and nothing more is read
                request.content.feed_eof()
                request.protocol.close()

    return guard


async def _watch(request: web.Request, stalled_s: float) -> None:
    content, seen = request.content, -1
    while not content.is_eof():
        if content.total_bytes == seen:
            content.set_exception(web.HTTPRequestTimeout(reason="the body stopped coming"))
            return
        seen = content.total_bytes
        await asyncio.sleep(stalled_s)
