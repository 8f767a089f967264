"""The HTTP side of a trickle server: what each method on a channel and on a segment does, as known in the field."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from comfystream.errors import BusyError

from .channel import Channel, NoEntry, SegmentBuffer
from .wire import CLOSED, CURRENT, EXPECT_CONTENT, LATEST, NEXT, NO_ENTRY, RESET, SEQ, TERMINATED, ChannelOver

if TYPE_CHECKING:
    from .server import TrickleServer

__all__ = ["Routes"]

_LOST = (ConnectionError, HttpProcessingError, web.RequestPayloadError)
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = logging.getLogger(__name__)


class Routes:
    """Handlers on the channels of one server."""

    def __init__(self, server: TrickleServer) -> None:
        self._server = server
        self._options = server.options

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes: `/{channel}`, `/{channel}/{number}`; whatever else is 404."""
        router.add_route("*", "/{name}", self._on_channel)
        router.add_route("*", "/{name}/{number}", self._on_segment)
        router.add_route("*", "/{rest:.*}", _elsewhere)

    async def _on_channel(self, request: web.Request) -> web.StreamResponse:
        by_method: dict[str, Handler] = {"DELETE": self._delete_channel, "POST": self._create_channel}
        return await self._dispatch(request, by_method)

    async def _on_segment(self, request: web.Request) -> web.StreamResponse:
        by_method: dict[str, Handler] = {
            "DELETE": self._delete_segment,
            "GET": self._get_segment,
            "HEAD": self._get_segment,
            "POST": self._post_segment,
        }
        return await self._dispatch(request, by_method)

    async def _dispatch(self, request: web.Request, by_method: dict[str, Handler]) -> web.StreamResponse:
        from .server import ChannelRefused

        handler = by_method.get(request.method)
        if handler is None:
            return _text(405, "Method Not Allowed", {"Allow": ", ".join(by_method)})
        try:
            return await handler(request)
        except ChannelRefused as error:
            return _text(error.status, error.message)
        except BusyError as error:
            return _text(503, error.message)
        except ConnectionResetError:  # whoever asked has hung up: nobody reads this answer
            return _kick(web.Response())

    # --- channels

    async def _create_channel(self, request: web.Request) -> web.StreamResponse:
        name = _elements(request)[-1]
        if self._server.get(name) is None:
            if not self._options.auto_create:
                return _text(404, "Stream not found")
            await self._create(name, request.headers.get(EXPECT_CONTENT, ""))
        return web.Response()

    async def _create(self, name: str, mime: str) -> Channel:
        await self._server.ask(self._options.before_create, name)
        return self._server.create(name, mime)

    async def _delete_channel(self, request: web.Request) -> web.StreamResponse:
        name = _elements(request)[-1]
        if self._server.get(name) is None:
            return _text(400, "Invalid stream")
        await self._server.ask(self._options.before_delete, name)
        self._server.close(name)
        return web.Response()

    # --- segments

    async def _delete_segment(self, request: web.Request) -> web.StreamResponse:
        name, word = _elements(request)[-2:]
        channel, number = self._server.get(name), _number(word)
        if channel is None:
            return _text(404, "Stream not found")
        if number is None or number < 0:
            return _text(400, "Invalid idx")
        return web.Response() if channel.drop(number) else _text(400, "Nonexistent segment")

    async def _get_segment(self, request: web.Request) -> web.StreamResponse:
        name, word = _elements(request)[-2:]
        channel, number = self._server.get(name), _number(word)
        if channel is None:
            return _text(404, "Stream not found")
        if word == "next":
            return _next(channel)
        if number is None or number < CURRENT:
            return _text(400, "Invalid idx")
        number = channel.resolve_read(number)
        latest = channel.next_write
        try:
            segment = channel.find(number)
        except NoEntry:
            return _no_entry(channel, number)
        if not await self._begun(request, segment):
            return _empty(channel, number)
        headers = {"Content-Type": channel.mime, SEQ: str(number)}
        if latest != number:
            headers[LATEST] = str(latest)
        return await self._stream(request, segment, headers)

    async def _begun(self, request: web.Request, segment: SegmentBuffer, seen: int = 0) -> bool:
        """Wait for more than `seen` chunks, as long as the client does; False when the segment ends instead.

        Raises:
            ConnectionResetError: the client hung up. A server that cancels its handlers then is told at once.
        """
        while True:
            try:
                async with asyncio.timeout(self._options.gone_check_s):
                    return await segment.wait(seen)
            except TimeoutError:
                if request.transport is None or request.transport.is_closing():
                    raise ConnectionResetError("the reader hung up") from None

    async def _stream(
        self, request: web.Request, segment: SegmentBuffer, headers: dict[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        seen = 0
        while request.method != "HEAD" and await self._begun(request, segment, seen):
            data, seen = segment.since(seen)
            await response.write(data)
        await response.write_eof()
        return response

    async def _post_segment(self, request: web.Request) -> web.StreamResponse:
        name, word = _elements(request)[-2:]
        number = _number(word)
        channel = self._server.get(name)
        if channel is None and not self._options.auto_create:
            return _kick(_text(404, "Stream not found"))
        if number is None or number < NEXT:
            return _kick(_text(400, "Invalid idx"))
        if channel is None:
            channel = await self._create(name, request.headers.get("Content-Type", ""))
        try:
            segment = channel.open(number)
        except ChannelOver:
            return _kick(_text(404, "Stream not found"))
        if request.headers.get(RESET):
            channel.reset(segment.number)
        return await self._receive(request, channel, segment)

    async def _receive(self, request: web.Request, channel: Channel, segment: SegmentBuffer) -> web.StreamResponse:
        try:
            async with contextlib.aclosing(_Body(request, segment, self._options.keep_alive_s)) as body:
                is_fitting = await self._take(body, segment)
        except _LOST:
            channel.abandon(segment)
            return _kick(_text(500, "Server error"))
        except asyncio.CancelledError:
            channel.abandon(segment)
            raise
        channel.finish(segment)
        if not is_fitting:
            return _kick(_text(413, "Segment too large"))
        answer = web.Response(headers={SEQ: str(segment.number)})
        if channel.is_closed:
            answer.headers[CLOSED] = TERMINATED
        return answer if body.is_whole and body.taken else _kick(answer)

    async def _take(self, body: _Body, segment: SegmentBuffer) -> bool:
        """Move the body into the segment; False when it does not fit."""
        while data := await body.next():
            if segment.size + len(data) > self._options.most_segment_bytes:
                return False
            segment.write(data)
        return True


class _Body:
    """What a publisher sends, until it or the segment ends; while nothing has come it is told to go on."""

    def __init__(self, request: web.Request, segment: SegmentBuffer, keep_alive_s: float) -> None:
        self.is_whole = False
        self.taken = 0
        self._request = request
        self._keep_alive_s: float | None = keep_alive_s
        self._closing = asyncio.ensure_future(segment.closed.wait())
        self._reading: asyncio.Future[bytes] | None = None

    async def next(self) -> bytes:
        """The next bytes; empty at the end of the body (`is_whole`) or when the segment was closed from elsewhere."""
        if self._closing.done():
            return b""
        self._reading = asyncio.ensure_future(self._request.content.readany())
        while not self._reading.done() and not self._closing.done():
            both = (self._reading, self._closing)
            done, _ = await asyncio.wait(both, timeout=self._keep_alive_s, return_when=asyncio.FIRST_COMPLETED)
            if not done and self._request.transport is not None:
                self._request.transport.write(_CONTINUE)
        if not self._reading.done():
            return b""
        self._keep_alive_s = None
        data = self._reading.result()
        self.is_whole = not data
        self.taken += len(data)
        return data

    async def aclose(self) -> None:
        """Stop waiting."""
        for task in (self._closing, self._reading):
            if task is not None and not task.cancel() and not task.cancelled():
                task.exception()  # seen, or it would be told as never retrieved


def _next(channel: Channel) -> web.Response:
    return _text(200, str(channel.next_write), {LATEST: str(channel.next_write)}, ending="")


def _no_entry(channel: Channel, number: int) -> web.Response:
    """The number is not there: of a channel that has ended that is the end, of any other one a number to go on with."""
    headers = {LATEST: str(channel.next_write), SEQ: str(number)}
    if channel.is_closed:
        return web.Response(text="Entry not found", headers={**headers, CLOSED: TERMINATED})
    return web.Response(status=NO_ENTRY, reason="status code 470", text="Entry not found", headers=headers)


def _empty(channel: Channel, number: int) -> web.Response:
    headers = {"Content-Type": channel.mime, SEQ: str(number), LATEST: str(channel.next_write)}
    if channel.is_closed:
        headers[CLOSED] = TERMINATED
    return web.Response(headers=headers)


def _kick(response: web.Response) -> web.Response:
    response.force_close()
    return response


def _text(status: int, message: str, headers: dict[str, str] | None = None, ending: str = "\n") -> web.Response:
    given = {"X-Content-Type-Options": "nosniff"} if ending else {}
    return web.Response(status=status, text=message + ending, headers={**given, **(headers or {})})


def _elements(request: web.Request) -> list[str]:
    """The elements of the path, decoded one by one: an encoded slash stays inside its element."""
    return [unquote(element) for element in request.rel_url.raw_path.split("/")]


def _number(word: str) -> int | None:
    return int(word) if _NUMBER.fullmatch(word) else None


async def _elsewhere(request: web.Request) -> web.StreamResponse:
    path = request.rel_url.raw_path
    clean = re.sub("//+", "/", path)
    if clean != path:
        return web.Response(status=307, headers={"Location": clean})
    return _text(404, "404 page not found")
