"""Packets that were encoded once, to each of those who look on: a short queue each, and nobody waits for another."""

from __future__ import annotations

import asyncio
from collections import deque
from fractions import Fraction
from typing import Any, Protocol

import av
from aiortc.mediastreams import MediaStreamError

from .tracks import OutTrack

__all__ = ["Feeding", "Outlet", "PictureOutlet", "SoundOutlet"]


class Feeding(Protocol):
    """Where outlets get packets from."""

    def join(self, outlet: Outlet, codec: str) -> None:
        """Feed it from now on."""
        ...

    def leave(self, outlet: Outlet) -> None:
        """Feed it no more. Idempotent."""
        ...

    def wants_key(self, outlet: Outlet) -> None:
        """It needs a key frame."""
        ...

    def estimated(self, outlet: Outlet) -> None:
        """It knows more about its network."""
        ...


class Outlet(OutTrack):
    """The track of one viewer. It joins when the connection is there and first asks for a packet.

    Args:
        source: feeds it.
    """

    room = 50  # packets

    def __init__(self, source: Feeding) -> None:
        self._source = source
        self._codec = "opus"
        self._packets: deque[tuple[av.Packet[Any], Fraction | None]] = deque()
        self._ready = asyncio.Event()
        self._has_joined = False
        self.sent = self.skipped = self.bytes = 0
        super().__init__()

    def put(self, packet: av.Packet[Any], media_s: Fraction | None) -> None:
        """One more packet; without room the oldest goes."""
        if len(self._packets) >= self.room:
            self._packets.popleft()
            self.skipped += 1
        self._packets.append((packet, media_s))
        self._ready.set()

    async def recv(self) -> av.Packet[Any]:
        """The next packet.

        Raises:
            MediaStreamError: the track was stopped.
        """
        if not self._has_joined and self.readyState == "live":
            self._has_joined = True
            self._source.join(self, self._codec)
        while not self._packets:
            if self.readyState != "live":
                raise MediaStreamError
            self._ready.clear()
            await self._ready.wait()
        packet, self.media_s = self._packets.popleft()
        self.sent, self.bytes = self.sent + 1, self.bytes + packet.size
        return packet

    def figures(self) -> dict[str, Any]:
        """Counters since the start."""
        return {"codec": self._codec, "packets": self.sent, "skipped": self.skipped, "bytes": self.bytes}

    def stop(self) -> None:
        """No more packets. Idempotent."""
        super().stop()
        self._packets.clear()
        self._source.leave(self)
        self._ready.set()


class SoundOutlet(Outlet):
    """Opus: every packet can be heard without the one before."""

    kind = "audio"


class PictureOutlet(Outlet):
    """Pictures that refer to those before: after a hole nothing goes out until the next key frame."""

    kind = "video"
    room = 15  # half a second

    def __init__(self, source: Feeding) -> None:
        super().__init__(source)
        self._estimate: int | None = None
        self._waits_for_key = True

    @property
    def estimate(self) -> int | None:  # one more has to hear of it
        """Bits per second that the receiver thinks the network carries."""
        return self._estimate

    @estimate.setter
    def estimate(self, bitrate: int | None) -> None:
        self._estimate = bitrate
        if bitrate is not None:
            self._source.estimated(self)

    def use(self, codec: str) -> None:
        """Take part in what is encoded as "VP8" or "H264"."""
        self._codec = codec

    def request_key(self) -> None:
        """Its viewer cannot go on without a key frame."""
        self._source.wants_key(self)

    def put(self, packet: av.Packet[Any], media_s: Fraction | None) -> None:
        """One more picture; who is too slow sees nothing up to the next key frame, and never a torn picture."""
        if self._waits_for_key and not packet.is_keyframe:
            self.skipped += 1
            return
        if len(self._packets) >= self.room and not packet.is_keyframe:
            self.skipped += len(self._packets) + 1
            self._packets.clear()
            self._waits_for_key = True
            self._source.wants_key(self)
            return
        if packet.is_keyframe and self._packets and len(self._packets) >= self.room:
            self.skipped += len(self._packets)
            self._packets.clear()
        self._waits_for_key = False
        super().put(packet, media_s)
