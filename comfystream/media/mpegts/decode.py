"""Access units to frames, with no frame held back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import av
import av.error
import numpy as np
from av.codec.context import Flags

from comfystream.frames import AudioFrame, Stamps, VideoFrame
from comfystream.media.mpegts import opus
from comfystream.media.mpegts.nal import begins_stream
from comfystream.media.mpegts.unit import CLOCK, AccessUnit, StreamCodec, StreamInfo
from comfystream.media.sound import SampleReader

__all__ = ["Decoded", "TsDecoder"]

_OPUS_RATE = 48_000
_ADTS_HEADER = 7


@dataclass(slots=True)
class Decoded:
    """Counts of one decoder.

    Attributes:
        pictures, sounds: frames that came out.
        waited: pictures that came before one that a decoder can begin with.
        broken: units that could not be decoded.
    """

    pictures: int = 0
    sounds: int = 0
    waited: int = 0
    broken: int = 0


class TsDecoder:
    """Decodes one video and one audio stream; owned by one thread at a time.

    Pictures begin with one that refers to no other, and begin there again after a loss: what a decoder would make up
    for missing parts is never shown. Ids count each kind from 0. A stream with B-frames comes out as late as its
    order asks for.
    """

    def __init__(self, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._now_ns = now_ns
        self._video: _VideoDecoder | None = None
        self._audio: _AudioDecoder | None = None
        self.counts = Decoded()

    def decode(self, unit: AccessUnit, arrived_ns: int = 0) -> list[VideoFrame | AudioFrame]:
        """Frames of one unit; `arrived_ns` becomes their `captured` stamp."""
        stream = unit.stream
        if stream.codec is None:
            return []
        if stream.codec.is_video:
            if self._video is None or self._video.codec is not stream.codec:
                self._video = _VideoDecoder(stream.codec, self.counts)
            return [self._picture(image, pts, arrived_ns) for image, pts in self._video.decode(unit)]
        if self._audio is None or self._audio.stream != stream:
            self._audio = _AudioDecoder(stream, self.counts)
        return [self._sound(*found, arrived_ns) for found in self._audio.decode(unit)]

    def flush(self) -> list[VideoFrame | AudioFrame]:
        """Pictures that a stream with B-frames still holds at its end. The decoder can go on with other streams."""
        video, self._video = self._video, None
        return [] if video is None else [self._picture(image, pts, 0) for image, pts in video.flush()]

    def _picture(self, image: av.VideoFrame, pts: int, arrived_ns: int) -> VideoFrame:
        now = self._now_ns()
        self.counts.pictures += 1
        stamps = Stamps(captured=arrived_ns or now, decoded=now)
        return VideoFrame(self.counts.pictures - 1, pts, CLOCK, image, stamps)

    def _sound(self, samples: np.ndarray, rate: int, pts: int, arrived_ns: int) -> AudioFrame:
        now = self._now_ns()
        self.counts.sounds += 1
        stamps = Stamps(captured=arrived_ns or now, decoded=now)
        return AudioFrame(self.counts.sounds - 1, pts, CLOCK, samples, rate, stamps)


class _VideoDecoder:
    def __init__(self, codec: StreamCodec, counts: Decoded) -> None:
        self.codec = codec
        self._counts = counts
        self._context = self._open()
        self._waits = True
        self._last = 0

    def _open(self) -> Any:
        context: Any = av.CodecContext.create(self.codec.value, "r")
        context.flags |= Flags.low_delay
        context.thread_count = 1  # more of them either hold frames back or, per slice, cost more than they save
        return context

    def decode(self, unit: AccessUnit) -> Iterator[tuple[av.VideoFrame, int]]:
        if unit.after_loss and not self._waits:
            self._begin_anew()
        if self._waits and not begins_stream(self.codec, unit.data):
            self._counts.waited += 1
            return
        self._waits = False
        packet = av.Packet(unit.data)
        packet.pts, packet.dts, packet.time_base = unit.pts, unit.dts, CLOCK
        try:
            images = cast(list[av.VideoFrame], self._context.decode(packet))
        except av.error.FFmpegError:
            self._fail()
            return
        yield from self._good(images)

    def flush(self) -> Iterator[tuple[av.VideoFrame, int]]:
        try:
            yield from self._good(self._context.decode(None))
        except av.error.FFmpegError:
            self._counts.broken += 1

    def _good(self, images: list[av.VideoFrame]) -> Iterator[tuple[av.VideoFrame, int]]:
        for image in images:
            if image.is_corrupt:
                self._fail()
                return
            pts = self._last + 1 if image.pts is None else image.pts
            self._last = pts
            image.pts, image.time_base = pts, CLOCK
            yield image, pts

    def _fail(self) -> None:
        self._counts.broken += 1
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._waits = True
        self._context.flush_buffers()


class _AudioDecoder:
    def __init__(self, stream: StreamInfo, counts: Decoded) -> None:
        assert stream.codec is not None
        self.stream = stream
        self._codec = stream.codec
        self._counts = counts
        self._context: Any = av.CodecContext.create(self._codec.value, "r")
        if self._codec is StreamCodec.OPUS:
            channels = stream.channels if stream.channels in (1, 2) else 2
            self._context.extradata = _opus_head(channels)
        self._reader = SampleReader()
        self._next = Fraction(0)

    def decode(self, unit: AccessUnit) -> Iterator[tuple[np.ndarray, int, int]]:
        if unit.pts is not None:
            self._next = Fraction(unit.pts)
        try:
            for packet in self._packets(unit.data):
                for sound in self._context.decode(packet):
                    if sound.samples and sound.sample_rate:
                        yield self._reader.read(sound), sound.sample_rate, round(self._next)
                        self._next += Fraction(sound.samples, sound.sample_rate) / CLOCK
        except av.error.FFmpegError:
            self._counts.broken += 1

    def _packets(self, data: bytes) -> Iterator[Any]:
        if self._codec is StreamCodec.OPUS:
            return map(av.Packet, opus.split(data))
        if self._codec is StreamCodec.AAC:
            return map(av.Packet, _adts(data))
        return iter(self._context.parse(data))


def _adts(data: bytes) -> Iterator[bytes]:
    """Frames of AAC with their headers (ISO/IEC 14496-3, 1.A.2.2)."""
    at = 0
    while at + _ADTS_HEADER <= len(data) and data[at] == 0xFF and data[at + 1] & 0xF6 == 0xF0:
        size = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
        if size <= _ADTS_HEADER or at + size > len(data):
            return
        yield data[at : at + size]
        at += size


def _opus_head(channels: int) -> bytes:
    """The identification header that decoders expect (RFC 7845, 5.1); nothing is skipped at the front."""
    return b"OpusHead" + bytes((1, channels, 0, 0)) + _OPUS_RATE.to_bytes(4, "little") + b"\x00\x00\x00"
