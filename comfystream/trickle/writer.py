"""Writes a trickle channel: numbered segments, each sent while it is made, the request for the next one open ahead."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp

from comfystream.errors import NetworkError

from .connection import FAILURES, Connection, is_lasting, unreachable
from .segment_post import Outcome, SegmentPost
from .wire import NEXT, RESET, ChannelOver

__all__ = ["SegmentWriter", "TrickleWriter", "WriterOptions", "WriterStats"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WriterOptions:
    """How patient a writer is.

    Attributes:
        write_s: how long the server may take no byte before a segment counts as broken.
        retry_s: pause before the first repetition of a request that sent nothing, doubled up to `most_retry_s`.
        most_failures: so many failures in a row end it with an error.
        chunks: how many writes may wait for the network before `write` waits.
        unanswered: how many finished segments may wait for their answer before `segment` waits.
        first_look_s: so long the server may refuse the first segment before the second is announced.
    """

    write_s: float = 20.0
    retry_s: float = 0.25
    most_retry_s: float = 2.0
    most_failures: int = 5
    chunks: int = 16
    unanswered: int = 2
    first_look_s: float = 0.2


@dataclass(slots=True)
class WriterStats:
    """What happened so far: segments that arrived whole, that broke, bytes that were sent, requests that failed."""

    segments: int = 0
    broken: int = 0
    sent_bytes: int = 0
    failures: int = 0


class SegmentWriter:
    """One segment that is being written; `number` is known at once except with servers that cannot tell (-1)."""

    def __init__(self, writer: TrickleWriter, post: SegmentPost) -> None:
        self._writer = writer
        self._post = post
        self.is_begun = False

    @property
    def number(self) -> int:
        """The segment's number."""
        return self._post.number

    @property
    def is_broken(self) -> bool:
        """True when it cannot be completed; what is written to it is dropped."""
        return self._post.outcome is Outcome.BROKEN

    async def write(self, data: bytes) -> None:
        """Send bytes; waits while the network is slower. What belongs to a broken segment is dropped.

        Raises:
            ChannelOver: the channel was closed or does not exist.
            NetworkError: `channel_unreachable`.
        """
        if not data:
            return
        if not self.is_begun and self._post.outcome is Outcome.SKIPPED:
            self._post = await self._writer._again(self._post)
        self._writer._check(self._post)
        first, self.is_begun = not self.is_begun, True
        if first:
            self._writer._began(self._post)
        await self._post.write(data)
        self._writer._check(self._post)

    async def close(self) -> None:
        """The segment is complete. Its answer is waited for in the background."""
        await self._post.finish()
        self._writer._ended(self._post)

    async def abort(self) -> None:
        """Give it up: readers are told that it will not come."""
        await self._post.abort()
        self._writer._ended(self._post)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await (self.close() if kind is None else self.abort())


class TrickleWriter:
    """The publisher of one channel: numbers without gaps, one open segment, and the next one announced.

    Args:
        url: the channel.
        content_type: sent with each segment; servers that create channels give it to readers.
        start: the first number; None goes on where the channel is, and ends what an earlier publisher left open.
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
        content_type: str,
        start: int | None = 0,
        http: aiohttp.ClientSession | None = None,
        verify_tls: bool = True,
        headers: Mapping[str, str] | None = None,
        options: WriterOptions | None = None,
    ) -> None:
        self._connection = Connection(url, http=http, verify_tls=verify_tls, headers=headers)
        self._options = options or WriterOptions()
        self._content_type = content_type
        self._next = start
        self._resets = start is None
        self._over: NetworkError | None = None
        self._segment: SegmentWriter | None = None
        self._ahead: SegmentPost | None = None
        self._unanswered: list[SegmentPost] = []
        self._look: asyncio.TimerHandle | None = None
        self._is_known = False
        self._is_closed = False
        self._end_seen = asyncio.Event()
        self.stats = WriterStats()

    @property
    def url(self) -> str:
        """The channel."""
        return self._connection.url

    @property
    def is_over(self) -> bool:
        """True when nothing can be sent any more: no such channel, it was closed, no server, or `close`."""
        return self._over is not None or self._is_closed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def create(self) -> bool:
        """Ask the server for the channel, with its type; False when it has none and makes none for clients.

        Raises:
            NetworkError: `channel_unreachable`.
        """
        try:
            headers = {"Expect-Content": self._content_type}
            async with asyncio.timeout(10), await self._connection.request("POST", headers=headers) as response:
                return response.status == 200
        except FAILURES as error:
            raise self._unreachable(error) from error

    async def segment(self) -> SegmentWriter:
        """Begin the next segment; one that is still open is completed first.

        Raises:
            ChannelOver: the channel was closed or does not exist.
            NetworkError: `channel_unreachable`.
        """
        if self._segment is not None:
            await self._segment.close()
        while len(self._unanswered) > self._options.unanswered:
            await self._unanswered[0].answered()
        self._raise_if_over()
        self._segment = SegmentWriter(self, await self._take_ahead())
        return self._segment

    async def send(self, data: bytes) -> int:
        """Send one whole segment and wait until the server has it; a broken one is sent again with the next number.

        Returns:
            Its number.

        Raises:
            ChannelOver: the channel was closed or does not exist.
            NetworkError: `channel_unreachable`.
        """
        for _ in range(self._options.most_failures):
            segment = await self.segment()
            await segment.write(data)
            post = segment._post
            await segment.close()
            await post.answered()
            self._check(post)
            if post.outcome is Outcome.DONE:
                return post.number
        raise self._unreachable("segments break off")

    async def wait_over(self) -> None:
        """Announce the first segment, if none is yet, and wait until nothing can be sent any more.

        The request that stands open ahead of the next segment is what tells it, however long there is nothing to send.

        Raises:
            ChannelOver: the channel was closed or does not exist.
            NetworkError: `channel_unreachable`.
        """
        if self._ahead is None and self._segment is None and not self.is_over:
            self._ahead = await self._open()
        await self._end_seen.wait()
        if self._over is not None:
            raise self._over

    async def close(self, drain_s: float = 1.0, *, delete_channel: bool = False) -> None:
        """Complete what is open, wait for the answers, end the announced segment, hang up. Raises nothing.

        Args:
            drain_s: how long all that may take.
            delete_channel: also end the channel, for those who own it. Workers do not: the orchestrator does.
        """
        if self._is_closed:
            return
        self._is_closed = True
        self._end_seen.set()
        self._cancel_look()
        try:
            async with asyncio.timeout(drain_s):
                await self._drain()
        except TimeoutError:
            _log.warning("%s: not all was delivered in %.1f s", self.url, drain_s)
        for post in list(self._unanswered):
            await post.cancel()
        if delete_channel and self._over is None:
            await self._connection.drop(None)
        await self._connection.close()

    async def _drain(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            self._unanswered.append(ahead)
        if self._segment is not None:
            await self._segment.close()
        if ahead is not None:
            await ahead.finish()
        for post in list(self._unanswered):
            await post.answered()

    # --- which number is next

    async def _take_ahead(self) -> SegmentPost:
        """The announced segment; a new one when there is none, or when it was ended from elsewhere."""
        post, self._ahead = self._ahead, None
        if post is None:
            return await self._open()
        if post.outcome is Outcome.SKIPPED:
            return await self._again(post)
        self._check(post)
        return post

    async def _open(self) -> SegmentPost:
        if self._next is None:
            self._next = await self._where_it_is()
        if self._next == NEXT and self._unanswered:  # the server numbers: known with the answer before
            last = self._unanswered[-1]
            await last.answered()
            self._check(last)
        return self._announce()

    def _announce(self) -> SegmentPost:
        assert self._next is not None
        headers = {"Content-Type": self._content_type, **({RESET: "1"} if self._resets else {})}
        self._resets = False
        post = SegmentPost(self._connection, self._next, headers, self._options, self.stats, self._answered)
        if self._next != NEXT:
            self._next += 1
        return post

    async def _where_it_is(self) -> int:
        for attempt in range(self._options.most_failures):
            try:
                number = await self._connection.next_number()
                return NEXT if number is None else number
            except FAILURES as error:
                last = error
                if is_lasting(error):
                    break
                await asyncio.sleep(min(self._options.retry_s * 2**attempt, self._options.most_retry_s))
        raise self._unreachable(last) from last

    async def _again(self, post: SegmentPost) -> SegmentPost:
        """A segment for one that was ended from elsewhere before anything was written."""
        while post.outcome is Outcome.SKIPPED:
            self._next = max(self._next or 0, post.number + 1)
            post = self._announce()
            await asyncio.sleep(0)
        return post

    # --- what SegmentWriter tells

    def _began(self, post: SegmentPost) -> None:
        """The first bytes of a segment: announce the next, or see first whether there is a channel."""
        if self._is_known:
            self._announce_next()
        elif self._look is None:
            loop = asyncio.get_running_loop()
            self._look = loop.call_later(self._options.first_look_s, self._announce_next)

    def _announce_next(self) -> None:
        self._cancel_look()
        self._is_known = True
        has_end = self._over is not None or self._is_closed
        if self._ahead is None and not has_end and self._next is not None and self._next >= 0:
            self._ahead = self._announce()

    def _cancel_look(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _ended(self, post: SegmentPost) -> None:
        self._cancel_look()
        if self._segment is not None and self._segment._post is post:
            self._segment = None
            if post.outcome is None:
                self._unanswered.append(post)

    def _answered(self, post: SegmentPost) -> None:
        """A request has its outcome."""
        self._note_end(post)
        if post in self._unanswered:
            self._unanswered.remove(post)
        if post.outcome is not Outcome.DONE:
            return
        if self._next == NEXT:
            self._next = post.number + 1
        if self._segment is None or self._segment.is_begun:
            self._announce_next()
        self._is_known = True

    # --- the end

    def _note_end(self, post: SegmentPost) -> None:
        if self._over is not None:
            return
        if post.outcome is Outcome.CLOSED:
            self._over = ChannelOver(f"{self.url} was closed", code="channel_closed")
        elif post.outcome is Outcome.NOT_FOUND:
            self._over = ChannelOver(f"{self.url} does not exist", code="channel_not_found")
        elif post.outcome is Outcome.UNREACHABLE:
            self._over = self._unreachable(post.error or post.reason)
        if self._over is not None:
            self._end_seen.set()

    def _check(self, post: SegmentPost) -> None:
        self._note_end(post)
        self._raise_if_over()

    def _raise_if_over(self) -> None:
        if self._over is not None:
            self._cancel_look()
            raise self._over
        if self._is_closed:
            raise NetworkError(f"the writer to {self.url} is closed", code="writer_closed")

    def _unreachable(self, reason: object) -> NetworkError:
        return unreachable(f"{self.url} cannot be written", reason)
