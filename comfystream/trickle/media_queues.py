"""What stands between the event loop and the threads that decode and encode, and what gives way in it."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

from comfystream.frames import AudioFrame, VideoFrame

__all__ = ["Chunk", "Inbox", "Offers"]

_MOST_BYTES = 64 << 20
_MOST_SOUNDS = 250  # about five seconds


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes of a segment, or with `ends` its end; `is_whole` says whether the segment came to us complete."""

    segment: int
    data: bytes
    arrived_ns: int
    ends: bool = False
    is_whole: bool = True


class Inbox:
    """Chunks between the event loop and the decoding thread. Decoding that is too far behind goes to the newest start.

    Args:
        most_behind_s: how long a chunk may wait before that happens.

    Attributes:
        skipped: segments of which something was left out.
    """

    def __init__(self, most_behind_s: float) -> None:
        self._most_behind_ns = most_behind_s * 1e9
        self._items: deque[Chunk] = deque()
        self._ready = threading.Condition()
        self._bytes = 0
        self._is_closed = False
        self.skipped = 0

    def put(self, chunk: Chunk) -> None:
        """Append without waiting."""
        with self._ready:
            self._items.append(chunk)
            self._bytes += len(chunk.data)
            if self._bytes > _MOST_BYTES:
                self._clear(chunk.segment)
            self._ready.notify()

    def get(self) -> Chunk | None:
        """The next chunk; None at the end. An end that is not whole stands for what was left out."""
        with self._ready:
            self._ready.wait_for(lambda: self._items or self._is_closed)
            if not self._items:
                return None
            oldest, newest = self._items[0], self._items[-1]
            if newest.segment != oldest.segment and time.monotonic_ns() - oldest.arrived_ns > self._most_behind_ns:
                self._clear(newest.segment)
            chunk = self._items.popleft()
            self._bytes -= len(chunk.data)
            return chunk

    def _clear(self, before: int) -> None:
        """Leave out all segments before a number, or this one too if it is all there is."""
        left = [chunk for chunk in self._items if chunk.segment >= before]
        if len(left) == len(self._items):
            left = []
        gone = {chunk.segment for chunk in self._items} - {chunk.segment for chunk in left}
        self.skipped += len(gone)
        self._items = deque([Chunk(before, b"", time.monotonic_ns(), ends=True, is_whole=False), *left])
        self._bytes = sum(len(chunk.data) for chunk in left)

    def close(self, *, discard: bool = False) -> None:
        """No more will come; what is there is still handed out, unless it is discarded."""
        with self._ready:
            self._is_closed = True
            if discard:
                self._items.clear()
            self._ready.notify()


class Offers:
    """Frames for the encoding thread in order: the newest pictures, and all sound.

    Args:
        pictures: so many may wait; older ones are dropped.
    """

    def __init__(self, pictures: int) -> None:
        self._ready = threading.Condition()
        self._most_pictures = pictures
        self._pictures: deque[VideoFrame] = deque()
        self._sounds: deque[AudioFrame] = deque()
        self.dropped_pictures = self.dropped_sounds = 0
        self._is_closed = False

    def put(self, frame: VideoFrame | AudioFrame) -> bool:
        """Take a frame without waiting; False when it is closed."""
        with self._ready:
            if self._is_closed:
                return False
            if isinstance(frame, VideoFrame):
                self._pictures.append(frame)
                if len(self._pictures) > self._most_pictures:
                    self._pictures.popleft()
                    self.dropped_pictures += 1
            else:
                self._sounds.append(frame)
                if len(self._sounds) > _MOST_SOUNDS:
                    self._sounds.popleft()
                    self.dropped_sounds += 1
            self._ready.notify()
            return True

    def take(self, timeout_s: float | None) -> list[VideoFrame | AudioFrame] | None:
        """All sound and the oldest picture; empty when `timeout_s` passed; None at the end."""
        with self._ready:
            self._ready.wait_for(lambda: self._pictures or self._sounds or self._is_closed, timeout_s)
            frames: list[VideoFrame | AudioFrame] = [*self._sounds]
            self._sounds.clear()
            if self._pictures:
                frames.append(self._pictures.popleft())
            return frames if frames or not self._is_closed else None

    def close(self) -> None:
        """Take no more; what is there can still be taken."""
        with self._ready:
            self._is_closed = True
            self._ready.notify()
