"""One segment on its way to the server: a POST whose body comes while it is made."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING

import aiohttp

from .connection import FAILURES, Connection, in_words, is_lasting
from .wire import CLOSED, SEQ, header_number

if TYPE_CHECKING:
    from .writer import WriterOptions, WriterStats

__all__ = ["Outcome", "SegmentPost"]

STEADY_S = 2.0

_log = logging.getLogger(__name__)


class Outcome(Enum):
    """How a segment ended."""

    DONE = "done"  # the server has all of it
    SKIPPED = "skipped"  # ended by the server before anything was sent: the number is used up
    BROKEN = "broken"  # some of it was sent, the rest is lost
    CLOSED = "closed"  # the channel has ended
    NOT_FOUND = "not_found"  # there is no channel
    UNREACHABLE = "unreachable"  # too many failures, nothing was sent


class SegmentPost:
    """Owns the request of one number. Headers go out at once, so that the server knows of it before there are bytes."""

    def __init__(
        self,
        connection: Connection,
        number: int,
        headers: Mapping[str, str],
        options: WriterOptions,
        stats: WriterStats,
        on_end: Callable[[SegmentPost], None],
    ) -> None:
        self.number = number
        self.outcome: Outcome | None = None
        self.reason = ""
        self.error: Exception | None = None
        self._connection = connection
        self._headers = headers
        self._options = options
        self._stats = stats
        self._on_end = on_end
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue(options.chunks)
        self._sent = 0
        self._is_finished = False
        self._is_all_sent = False
        self._connected_at: float | None = None
        self._task = asyncio.create_task(self._run(), name=f"trickle-post-{number}")

    async def write(self, data: bytes) -> None:
        """Queue bytes; dropped when the segment has an outcome."""
        await self._put(data)

    async def finish(self) -> None:
        """No more bytes."""
        if not self._is_finished:
            self._is_finished = True
            await self._put(None)

    async def answered(self) -> None:
        """Wait for the outcome."""
        await asyncio.wait((self._task,))

    async def abort(self) -> None:
        """Break it off, and tell the server."""
        if self.outcome is None:
            self._is_finished = True
            await self.cancel()
            await self._drop()

    async def cancel(self) -> None:
        """Hang up."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._end(Outcome.BROKEN, "given up")

    async def _put(self, item: bytes | None) -> None:
        if self.outcome is not None:
            return
        putting = asyncio.ensure_future(self._chunks.put(item))
        try:
            both, limit_s = (putting, self._task), self._options.write_s
            await asyncio.wait(both, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            if not putting.done() and self.outcome is None:
                self.reason = "the server takes no bytes"
                await self.abort()
        finally:
            putting.cancel()

    # --- the task

    async def _run(self) -> None:
        failures = 0
        while self.outcome is None:
            self._connected_at = None
            try:
                await self._attempt()
            except FAILURES as error:
                self._stats.failures += 1
                self.reason, self.error = in_words(error), error
                if self._sent:
                    self._end(Outcome.BROKEN, self.reason)
                    await self._drop()
                    return
                failures = 1 if self._was_steady() else failures + 1
                if is_lasting(error) or failures >= self._options.most_failures:
                    self._end(Outcome.UNREACHABLE, self.reason)
                    return
                await asyncio.sleep(min(self._options.retry_s * 2 ** (failures - 1), self._options.most_retry_s))
                await self._connection.refresh()

    def _was_steady(self) -> bool:
        """True when the server had the request for a while: proxies cut idle ones; the server is well."""
        now = asyncio.get_running_loop().time()
        return self._connected_at is not None and now - self._connected_at > STEADY_S

    async def _attempt(self) -> None:
        response = await self._connection.request("POST", self.number, headers=self._headers, data=self._body())
        try:
            number = header_number(response.headers.get(SEQ))
            self.number = self.number if number is None else number
            self._judge(response)
        finally:
            response.close() if not self._is_all_sent else response.release()

    def _judge(self, response: aiohttp.ClientResponse) -> None:
        if CLOSED in response.headers:
            self._end(Outcome.CLOSED)
        elif response.status == 404:
            self._end(Outcome.NOT_FOUND)
        elif response.status != 200:
            raise aiohttp.ClientConnectionError(f"the server answered {response.status}")
        elif self._is_all_sent:
            self._end(Outcome.DONE)
        elif self._sent:
            self._end(Outcome.BROKEN, "ended by the server")
        else:
            self._end(Outcome.SKIPPED)

    async def _body(self) -> AsyncIterator[bytes]:
        # aiohttp >= 3.12 holds the headers back until the body yields; without this the server would not know of the
        # segment before its first bytes. An empty chunk sends them and nothing else.
        self._connected_at = asyncio.get_running_loop().time()
        yield b""
        while (chunk := await self._chunks.get()) is not None:
            self._sent += len(chunk)
            self._stats.sent_bytes += len(chunk)
            yield chunk
        self._is_all_sent = True

    async def _drop(self) -> None:
        if self.number >= 0 and not await self._connection.drop(self.number):
            _log.info("segment %d could not be taken back", self.number)

    def _end(self, outcome: Outcome, reason: str = "") -> None:
        if self.outcome is None:
            self.outcome = outcome
            self.reason = reason or self.reason
            if outcome is Outcome.DONE and self._sent:
                self._stats.segments += 1
            elif outcome is Outcome.BROKEN:
                self._stats.broken += 1
                _log.warning("segment %d is lost: %s", self.number, self.reason)
            self._on_end(self)
