"""Frames across the process border: planes in shared memory, everything else pickled.

A sender owns a few slots, each a segment of shared memory as large as its largest picture so far. A descriptor that
goes over the connection says which slot holds what; the receiver rebuilds the picture and hands the slot back.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import threading
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from typing import Any

from comfystream.errors import EngineError
from comfystream.frames import Frame, Stamps, VideoFrame
from comfystream.media.frame_bytes import PackedImage, pack, packed_size, unpack

__all__ = ["PackedFrame", "SlotReader", "SlotWriter"]

GRAIN = 1 << 16
_OWN: set[str] = set()  # segments that this process made: its resource tracker has to go on knowing them


@dataclass(frozen=True, slots=True)
class PackedFrame:
    """What goes over the connection for one frame.

    Attributes:
        slot: which slot holds the picture; None when there is none (sound, text, a clock tick).
        segment: name of the slot's shared memory.
        image: how the picture lies in it.
        frame: the frame without its picture.
    """

    slot: int | None
    segment: str
    image: PackedImage | None
    frame: Frame

    def __reduce__(self) -> tuple[Any, ...]:
        """Flat for pictures: nested dataclasses and fractions take six times as long to pickle."""
        frame, image = self.frame, self.image
        if not isinstance(frame, VideoFrame) or image is None:
            return PackedFrame, (self.slot, self.segment, image, frame)
        stamps = frame.stamps
        return _unpickled, (
            self.slot,
            self.segment,
            (image.format, image.width, image.height, image.size, image.tags, image.pts),
            _ratio(image.time_base),
            (frame.id, frame.pts),
            _ratio(frame.time_base),
            (stamps.captured, stamps.decoded, stamps.entered, stamps.computed, stamps.encoded, stamps.sent),
        )


_Ratio = tuple[int, int] | None


def _ratio(fraction: Fraction | None) -> _Ratio:
    return None if fraction is None else (fraction.numerator, fraction.denominator)


@lru_cache(maxsize=64)
def _fraction(ratio: _Ratio) -> Fraction | None:
    return None if ratio is None else Fraction(*ratio)


def _unpickled(
    slot: int | None,
    segment: str,
    image: tuple[str, int, int, int, tuple[int | None, ...], int | None],
    image_base: _Ratio,
    frame: tuple[int, int],
    frame_base: tuple[int, int],
    stamps: tuple[int, ...],
) -> PackedFrame:
    id, pts = frame
    nothing: Any = None
    base: Any = _fraction(frame_base)
    packed = PackedImage(*image, _fraction(image_base))
    return PackedFrame(slot, segment, packed, VideoFrame(id, pts, base, nothing, Stamps(*stamps)))


class SlotWriter:
    """The sending side.

    Args:
        slots: how many pictures may be under way.
    """

    def __init__(self, slots: int) -> None:
        self._segments: list[SharedMemory | None] = [None] * slots
        self._free = list(range(slots))
        self._freed = threading.Condition()
        self._closed = False

    def write(self, frame: Frame, timeout_s: float | None = None) -> PackedFrame | None:
        """Pack a frame, waiting for a free slot; None when there is none within `timeout_s` or the writer is closed."""
        if not isinstance(frame, VideoFrame) or frame.image is None:
            return PackedFrame(None, "", None, frame)
        with self._freed:
            if not self._freed.wait_for(lambda: self._closed or self._free, timeout_s) or self._closed:
                return None
            slot = self._free.pop()
        try:
            segment = self._segment(slot, packed_size(frame.image.format.name, frame.image.width, frame.image.height))
            image = pack(frame.image, segment.buf)
        except Exception:
            self.free(slot)
            raise
        return PackedFrame(slot, segment.name, image, _without_image(frame))

    def _segment(self, slot: int, size: int) -> SharedMemory:
        segment = self._segments[slot]
        if segment is None or segment.size < size:
            if segment is not None:
                _destroy(segment)
                self._segments[slot] = None
            segment = self._segments[slot] = _create(-(-size // GRAIN) * GRAIN)
        return segment

    def free(self, slot: int) -> None:
        """The receiver is done with a slot."""
        with self._freed:
            self._free.append(slot)
            self._freed.notify()

    def close(self) -> None:
        """Remove the shared memory; whoever waits for a slot gets None. Idempotent."""
        with self._freed:
            self._closed = True
            self._freed.notify_all()
        for i, segment in enumerate(self._segments):
            if segment is not None:
                self._segments[i] = None
                _destroy(segment)


class SlotReader:
    """The receiving side: keeps the segments of the sender's slots open."""

    def __init__(self) -> None:
        self._segments: dict[int, SharedMemory] = {}

    def read(self, packed: PackedFrame) -> Frame:
        """The frame, with a picture of its own: the slot may be reused afterwards."""
        if packed.slot is None or packed.image is None or not isinstance(packed.frame, VideoFrame):
            return packed.frame
        segment = self._segments.get(packed.slot)
        if segment is None or segment.name != packed.segment:
            if segment is not None:
                segment.close()
            segment = self._segments[packed.slot] = _attach(packed.segment)
        frame = packed.frame
        return VideoFrame(frame.id, frame.pts, frame.time_base, unpack(packed.image, segment.buf), frame.stamps)

    def close(self) -> None:
        """Let go of the segments. Idempotent."""
        while self._segments:
            _, segment = self._segments.popitem()
            with contextlib.suppress(BufferError):
                segment.close()


def _without_image(frame: VideoFrame) -> VideoFrame:
    nothing: Any = None
    return VideoFrame(frame.id, frame.pts, frame.time_base, nothing, frame.stamps)


def _create(size: int) -> SharedMemory:
    """A new segment whose memory is really there.

    A segment is made without taking memory; where there is none, the first write would end the process with SIGBUS. A
    container has 64 MB of shared memory unless it is told otherwise.

    Raises:
        EngineError: there is not enough shared memory.
    """
    segment: SharedMemory | None = None
    try:
        segment = SharedMemory(f"comfystream-{secrets.token_hex(8)}", create=True, size=size)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(segment._fd, 0, size)  # type: ignore[attr-defined]
        _OWN.add(segment.name)
    except OSError as error:
        if segment is not None:
            _destroy(segment)
        raise EngineError(
            f"no shared memory for a picture of {size / 1e6:.0f} MB: {error.strerror}",
            code="shared_memory",
            hint="give the container more, for example docker run --shm-size 1g",
        ) from error
    return segment


def _attach(name: str) -> SharedMemory:
    """Open somebody else's segment without taking it over.

    Before Python 3.13 (`track=False`) attaching registers the segment with this process's resource tracker, which would
    remove it under the owner's feet when this process ends.
    """
    if sys.version_info >= (3, 13):
        return SharedMemory(name, track=False)
    segment = SharedMemory(name)
    if sys.platform != "win32" and name not in _OWN:
        resource_tracker.unregister(segment._name, "shared_memory")  # type: ignore[attr-defined]
    return segment


def _destroy(segment: SharedMemory) -> None:
    _OWN.discard(segment.name)
    with contextlib.suppress(BufferError):
        segment.close()
    with contextlib.suppress(FileNotFoundError):
        segment.unlink()
