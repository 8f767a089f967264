"""A channel and its window of segments, without HTTP: what a server serves, and code beside it may use.

Window: `window` slots, the slot of number n is n mod `window`. A number takes its slot when somebody begins to write
it, or waits for it at the leading edge, and pushes out the number that was there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from comfystream.errors import NetworkError

from .wire import CURRENT, NEXT, ChannelOver

__all__ = ["Channel", "NoEntry", "SegmentBuffer"]


class NoEntry(NetworkError):
    """A number that the channel does not hold: too old, or too far ahead (code `no_entry`)."""

    default_code = "no_entry"


class SegmentBuffer:
    """The bytes of one segment, growing until it is closed; any number of readers follow it, each at its own pace."""

    def __init__(self, number: int, on_bytes: Callable[[SegmentBuffer], None] | None = None) -> None:
        self.number = number
        self.size = 0
        self.writers = 0
        self.closed = asyncio.Event()
        self._on_bytes = on_bytes
        self._chunks: list[bytes] = []
        self._grown = asyncio.Event()

    @property
    def is_closed(self) -> bool:
        """True when nothing will be added any more."""
        return self.closed.is_set()

    def write(self, data: bytes) -> bool:
        """Add bytes; False when the segment is closed, and they are lost."""
        if self.is_closed:
            return False
        if data:
            self._chunks.append(data)
            self.size += len(data)
            if self._on_bytes is not None:
                self._on_bytes(self)
            self._wake()
        return True

    def close(self) -> None:
        """No more bytes: readers get to the end."""
        self.closed.set()
        self._wake()

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    async def wait(self, seen: int) -> bool:
        """Wait until there are more than `seen` chunks; False when the end comes instead."""
        while len(self._chunks) <= seen:
            if self.is_closed:
                return False
            await self._grown.wait()
        return True

    def since(self, seen: int) -> tuple[bytes, int]:
        """What came after the first `seen` chunks, in one piece, and how many chunks there are."""
        fresh = self._chunks[seen:]
        return fresh[0] if len(fresh) == 1 else b"".join(fresh), seen + len(fresh)

    async def chunks(self) -> AsyncIterator[bytes]:
        """All bytes from the beginning: what is there at once (in one piece), then as they are written."""
        seen = 0
        while await self.wait(seen):
            data, seen = self.since(seen)
            yield data

    async def read(self) -> bytes:
        """The whole segment, when it is complete."""
        return b"".join([chunk async for chunk in self.chunks()])


class Channel:
    """One channel: a sliding window of numbered segments.

    Args:
        name: what stands in the URL, decoded.
        mime: what readers get as Content-Type.
        window: how many segments are kept.
        grace_s: how long a segment that lost its publisher stays open for another one.
        clock: monotonic seconds.
    """

    def __init__(
        self, name: str, mime: str, *, window: int = 5, grace_s: float = 2.0, clock: Callable[[], float]
    ) -> None:
        self.name = name
        self.mime = mime
        self.next_write = 0
        self.is_closed = False
        self.used_at = clock()
        self._slots: list[SegmentBuffer | None] = [None] * window
        self._pushed_out: list[SegmentBuffer] = []  # by a waiting reader: they go on until their own publisher ends
        self._grace_s = grace_s
        self._clock = clock

    # --- numbers

    def resolve_read(self, number: int) -> int:
        """The number that a reader means: `NEXT` and `CURRENT` in terms of what is written."""
        if number == NEXT:
            return self.next_write
        return max(self.next_write - 1, 0) if number == CURRENT else number

    def held(self, number: int) -> SegmentBuffer | None:
        """The segment of that number, if it is in the window."""
        segment = self._slots[number % len(self._slots)]
        return segment if segment is not None and segment.number == number else None

    # --- writing

    def open(self, number: int = NEXT) -> SegmentBuffer:
        """Take the slot of a number and get its segment to write to; one that is still open goes on where it was.

        Raises:
            ChannelOver: the channel is closed.
        """
        if self.is_closed:
            raise ChannelOver(f'the channel "{self.name}" is closed')
        number = self.next_write if number == NEXT else number
        segment = self.held(number) or self._place(number, closes_old=True)
        segment.writers += 1
        return segment

    def finish(self, segment: SegmentBuffer) -> None:
        """The publisher is done with it; an empty segment uses up its number, too, and never moves the numbers back."""
        segment.writers -= 1
        self._end(segment)
        if not segment.size:
            self.used_at = self._clock()

    def abandon(self, segment: SegmentBuffer) -> None:
        """The publisher was lost. A segment with bytes ends after the grace, unless somebody goes on with it."""
        segment.writers -= 1
        if segment.size and not segment.is_closed:
            asyncio.get_running_loop().call_later(self._grace_s, _close_if_alone, segment)

    def publish(self, data: bytes) -> int:
        """Write one whole segment with the next number.

        Returns:
            Its number.
        """
        segment = self.open()
        segment.write(data)
        self.finish(segment)
        return segment.number

    def drop(self, number: int) -> bool:
        """Close one segment; False when it is not in the window."""
        segment = self.held(number)
        if segment is not None:
            self._end(segment)
        return segment is not None

    def reset(self, number: int) -> None:
        """A publisher began anew with this number: what is below will not go on."""
        for segment in self._slots:
            if segment is not None and segment.number < number:
                self._end(segment)

    def close(self) -> None:
        """End the channel: who waits on it is told."""
        self.is_closed = True
        for segment in (*self._slots, *self._pushed_out):
            if segment is not None:
                segment.close()

    def _end(self, segment: SegmentBuffer) -> None:
        """Close it; when nothing came, its number is used up, or readers would be sent back to it again and again."""
        segment.close()
        if not segment.size:
            self.next_write = max(self.next_write, segment.number + 1)

    def _place(self, number: int, *, closes_old: bool) -> SegmentBuffer:
        slot = number % len(self._slots)
        old = self._slots[slot]
        self._pushed_out = [segment for segment in self._pushed_out if not segment.is_closed]
        if old is not None and closes_old:
            self._end(old)
        elif old is not None and not old.is_closed:
            self._pushed_out.append(old)
        segment = SegmentBuffer(number, self._note_bytes)
        self._slots[slot] = segment
        return segment

    def _note_bytes(self, segment: SegmentBuffer) -> None:
        self.used_at = self._clock()
        if len(segment._chunks) == 1:  # the first: from here on the next number is the next to be written
            self.next_write = segment.number + 1
            self._release_skipped(segment.number)

    def _release_skipped(self, number: int) -> None:
        """Who waits for a lower number that nobody writes would wait for ever; a late publisher gets the grace."""
        for segment in self._slots:
            if segment is not None and segment.number < number and not segment.size and not segment.is_closed:
                asyncio.get_running_loop().call_later(self._grace_s, _close_if_alone, segment)

    # --- reading

    def find(self, number: int) -> SegmentBuffer:
        """The segment to read for a number that is resolved; at the leading edge it is made, to be waited for.

        Raises:
            NoEntry: it is not in the window.
        """
        segment = self.held(number)
        if segment is not None:
            return segment
        is_leading = number == self.next_write or (self.next_write == 0 and number == 1)
        if self.is_closed or not is_leading:
            raise NoEntry(f'the channel "{self.name}" has no segment {number}; the next one is {self.next_write}')
        return self._place(number, closes_old=False)

    async def subscribe(self, start: int = CURRENT) -> AsyncIterator[SegmentBuffer]:
        """The segments from `start` on, as they begin; who is too slow goes on at the newest. Ends with the channel."""
        number = self.resolve_read(start)
        while not self.is_closed:
            segment = None
            with contextlib.suppress(NoEntry):
                segment = self.find(number)
            if segment is None:
                number = self.next_write
                await asyncio.sleep(0)
                continue
            if await segment.wait(0):
                yield segment
            number = segment.number + 1


def _close_if_alone(segment: SegmentBuffer) -> None:
    if not segment.writers:
        segment.close()
