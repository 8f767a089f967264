"""Sound to Opus, once for all who listen."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import av
from av.audio.codeccontext import AudioCodecContext

from .tracks import OutTrack, SoundTrack

__all__ = ["OpusTrack"]

_RATE = 48_000
_BITRATE = 96_000  # what aiortc gives stereo
_LOOK_AHEAD_S = Fraction(312, _RATE)  # what comes out of a decoder is this much older (RFC 7845 4.2, pre-skip)


class OpusTrack(OutTrack):
    """Packets of 20 ms, one every 20 ms from the first sound on."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._slices = SoundTrack()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rtc-opus")
        self._encoder = _open()

    def offer(self, frame: Any) -> None:
        """More sound."""
        self._slices.offer(frame)

    async def recv(self) -> av.Packet[Any]:
        """The next packet.

        Raises:
            MediaStreamError: the track was stopped.
        """
        sound = await self._slices.recv()
        media_s = self._slices.media_s
        loop = asyncio.get_running_loop()
        packet = (await loop.run_in_executor(self._thread, self._encoder.encode, sound))[0]
        self.media_s = None if media_s is None else media_s - _LOOK_AHEAD_S
        packet.pts, packet.time_base = sound.pts, Fraction(1, _RATE)
        return packet

    def figures(self) -> dict[str, Any]:
        """Counters since the start."""
        return self._slices.figures()

    def stop(self) -> None:
        """No more sound. Idempotent."""
        super().stop()
        self._slices.stop()
        self._thread.shutdown(wait=False)


def _open() -> AudioCodecContext:
    encoder: AudioCodecContext = av.CodecContext.create("libopus", "w")
    encoder.format, encoder.layout, encoder.sample_rate = "s16", "stereo", _RATE
    encoder.bit_rate, encoder.time_base = _BITRATE, Fraction(1, _RATE)
    encoder.options = {"application": "audio", "frame_duration": "20"}
    return encoder
