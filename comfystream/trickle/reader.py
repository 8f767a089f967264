"""Reads a trickle channel, segment by segment, while they are written. Survives gaps, restarts and lost connections."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Self

import aiohttp

from comfystream.errors import NetworkError

from .connection import FAILURES, Connection, in_words, is_lasting, unreachable
from .wire import CLOSED, CURRENT, LATEST, NEXT, NO_ENTRY, SEQ, header_number

__all__ = ["EndReason", "ReaderOptions", "ReaderStats", "Segment", "TrickleReader"]

_log = logging.getLogger(__name__)


class EndReason(Enum):
    """Why a reader is at its end."""

    CLOSED = "closed"  # the server said so
    NOT_FOUND = "not_found"  # there is no such channel (any more)


@dataclass(frozen=True, slots=True)
class ReaderOptions:
    """How patient a reader is.

    Attributes:
        refresh_s: a request that waits for a segment is sent anew so often: dead connections are found by that.
        stall_s: a body that brings no byte for so long counts as broken.
        retry_s: pause before the first repetition, doubled up to `most_retry_s`.
        most_failures: so many failures in a row end it with an error.
        channel_wait_s: how long a channel may be missing at the start and after a failure: where publishers make it.
    """

    refresh_s: float = 20.0
    stall_s: float = 60.0
    retry_s: float = 0.4
    most_retry_s: float = 2.0
    most_failures: int = 5
    channel_wait_s: float = 0.0


@dataclass(slots=True)
class ReaderStats:
    """What happened so far.

    Attributes:
        segments: handed out.
        skipped: numbers that were jumped over because they were gone.
        empty: segments without bytes.
        broken: bodies that broke off.
        failures: requests that failed.
    """

    segments: int = 0
    skipped: int = 0
    empty: int = 0
    broken: int = 0
    failures: int = 0


class Segment:
    """One segment as it comes in.

    Attributes:
        number: its number.
        latest: the number that was to be written next when it was asked for, if the server told and it is not this one.
        content_type: the channel's type.
        is_broken: the connection was lost before its end.
    """

    def __init__(self, response: aiohttp.ClientResponse, number: int, first: bytes, stall_s: float) -> None:
        self.number = number
        self.latest = header_number(response.headers.get(LATEST))
        self.content_type = response.headers.get("Content-Type", "")
        self.headers = response.headers
        self.is_broken = False
        self.is_complete = False
        self._response = response
        self._first = first
        self._stall_s = stall_s

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes as they arrive; each only once. Ends early with `is_broken` when the connection is lost."""
        first, self._first = self._first, b""
        if first:
            yield first
        while not self.is_complete and not self.is_broken:
            try:
                async with asyncio.timeout(self._stall_s):
                    chunk = await self._response.content.readany()
            except FAILURES as error:
                self._break(error)
                return
            if chunk:
                yield chunk
            else:
                self.is_complete = True

    def _break(self, error: BaseException) -> None:
        self.is_broken = True
        _log.warning("segment %d broke off: %s", self.number, in_words(error))
        self._response.close()

    async def read(self, limit: int | None = None) -> bytes:
        """The rest of the segment, when it is complete.

        Raises:
            NetworkError: `segment_broken`, the connection is lost before its end; `segment_too_large`, past the limit.
        """
        data = bytearray()
        async with contextlib.aclosing(self.chunks()) as chunks:
            async for chunk in chunks:
                data += chunk
                if limit is not None and len(data) > limit:
                    message = f"segment {self.number} has more than {limit} bytes"
                    raise NetworkError(message, code="segment_too_large")
        if self.is_broken:
            raise NetworkError(f"segment {self.number} broke off after {len(data)} bytes", code="segment_broken")
        return bytes(data)

    def close(self) -> None:
        """Let go of what was not read."""
        self._response.close()


class TrickleReader:
    """The segments of one channel, in order, each as soon as it begins.

    The request for the next segment is sent when one has begun. Going on to the next lets go of what was not read of
    the one before. `async for segment in reader` ends with the channel; `end` then says why.

    Args:
        url: the channel.
        start: the first number; -2 the newest that has begun, -1 the one after it.
        http: a session of the caller; None makes one.
        verify_tls: False accepts any certificate.
        headers: sent with every request.
        options: how patient it is.

    Raises:
        ConfigError: `bad_url`.
    """

    def __init__(
        self,
        url: str,
        *,
        start: int = CURRENT,
        http: aiohttp.ClientSession | None = None,
        verify_tls: bool = True,
        headers: Mapping[str, str] | None = None,
        options: ReaderOptions | None = None,
    ) -> None:
        self._connection = Connection(url, http=http, verify_tls=verify_tls, headers=headers)
        self._options = options or ReaderOptions()
        self.number = start
        self.end: EndReason | None = None
        self.stats = ReaderStats()
        self._ahead: asyncio.Task[aiohttp.ClientResponse] | None = None
        self._segment: Segment | None = None
        self._failures = 0
        self._resyncs = 0
        self._has_asked = False
        self._waits_until = 0.0

    @property
    def url(self) -> str:
        """The channel."""
        return self._connection.url

    @property
    def is_over(self) -> bool:
        """True at the end of the stream."""
        return self.end is not None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Segment:
        segment = await self.next()
        if segment is None:
            raise StopAsyncIteration
        return segment

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def next(self) -> Segment | None:
        """Wait for the next segment that has bytes, as long as it takes.

        Returns:
            The segment; None at the end of the channel.

        Raises:
            NetworkError: `channel_unreachable` after too many failures in a row.
        """
        self._leave_segment()
        while self.end is None:
            try:
                response = await self._response()
                segment = await self._judge(response)
            except FAILURES as error:
                await self._fail(error)
                continue
            if segment is not None:
                self.stats.segments += 1
                self._segment = segment
                return segment
        return None

    async def close(self) -> None:
        """Stop waiting and hang up."""
        await self._drop_ahead()
        if self._segment is not None:
            self._segment.close()
            self._segment = None
        await self._connection.close()

    # --- asking

    async def _response(self) -> aiohttp.ClientResponse:
        """The answer for the current number, asked for anew while there is none."""
        if not self._has_asked:
            await self._resolve_start()
        while True:
            self._ask()
            assert self._ahead is not None
            await asyncio.wait((self._ahead,), timeout=self._options.refresh_s)
            if self._ahead.done():
                task, self._ahead = self._ahead, None
                return task.result()
            await self._drop_ahead()

    def _ask(self) -> None:
        if self._ahead is None:
            name = f"trickle-get-{self.number}"
            self._ahead = asyncio.create_task(self._connection.request("GET", self.number), name=name)

    async def _resolve_start(self) -> None:
        """A number for "the next one": asked for again as -1 it could mean a later one."""
        if self.number == NEXT:
            number = await self._connection.next_number()
            self.number = NEXT if number is None else number
        self._has_asked = True
        self._allow_absence()

    def _allow_absence(self) -> None:
        self._waits_until = asyncio.get_running_loop().time() + self._options.channel_wait_s

    async def _drop_ahead(self) -> None:
        task, self._ahead = self._ahead, None
        if task is None:
            return
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, *FAILURES):
            (await task).close()

    # --- answers

    async def _judge(self, response: aiohttp.ClientResponse) -> Segment | None:
        """What an answer means; the order matters: a closed channel answers 200."""
        number = header_number(response.headers.get(SEQ))
        if CLOSED in response.headers:
            self._finish(response, EndReason.CLOSED)
        elif response.status == 404:
            await self._not_found(response)
        elif response.status == NO_ENTRY:
            await self._resync(response)
        elif response.status != 200:
            response.close()
            raise ConnectionError(f"the server answered {response.status}")
        else:
            return await self._data(response, self.number if number is None else number)
        return None

    async def _data(self, response: aiohttp.ClientResponse, number: int) -> Segment | None:
        try:
            async with asyncio.timeout(self._options.stall_s):
                first = await response.content.readany()
        except FAILURES:
            response.close()
            raise
        self._failures = 0
        self.number = max(number, 0) + 1
        if not first:
            self.stats.empty += 1
            return None
        self._resyncs = 0
        self._ask()
        return Segment(response, number, first, self._options.stall_s)

    def _finish(self, response: aiohttp.ClientResponse, reason: EndReason) -> None:
        response.close()
        self.end = reason

    async def _not_found(self, response: aiohttp.ClientResponse) -> None:
        if asyncio.get_running_loop().time() >= self._waits_until:
            self._finish(response, EndReason.NOT_FOUND)
            return
        response.close()
        await asyncio.sleep(self._options.retry_s)

    async def _resync(self, response: aiohttp.ClientResponse) -> None:
        """Go where the server is: ahead when this was too slow, back when the publisher began anew."""
        latest = header_number(response.headers.get(LATEST))
        response.close()
        if latest is not None and latest > self.number >= 0:
            self.stats.skipped += latest - self.number
        _log.info("%s has no segment %d, going on with %s", self.url, self.number, latest)
        self.number = NEXT if latest is None else latest
        if self._resyncs:
            await asyncio.sleep(min(0.05 * 2 ** min(self._resyncs, 6), 1.0))
        self._resyncs += 1
        await self._connection.refresh()

    async def _fail(self, error: Exception) -> None:
        """Count it, pause, and use a fresh connection for the next try.

        Raises:
            NetworkError: `channel_unreachable`, `certificate_not_trusted`.
        """
        self._failures += 1
        self.stats.failures += 1
        if is_lasting(error) or self._failures >= self._options.most_failures:
            raise unreachable(f"{self.url} cannot be read", error, self._failures) from error
        _log.info("%s, segment %d: %s; trying again", self.url, self.number, in_words(error))
        self._allow_absence()
        pause_s = self._options.retry_s * 2 ** (self._failures - 1)
        await asyncio.sleep(min(pause_s, self._options.most_retry_s))
        await self._connection.refresh()

    def _leave_segment(self) -> None:
        segment, self._segment = self._segment, None
        if segment is None:
            return
        if segment.is_broken:
            self.stats.broken += 1
        if not segment.is_complete:
            segment.close()
