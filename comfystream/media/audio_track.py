"""The sound of a file that is being written: packets copied from another file, or new sound encoded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import av.error
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from numpy.typing import NDArray

from comfystream.clock import rescale
from comfystream.frames import AudioFrame
from comfystream.media.container import first_audio, open_input, origin_of
from comfystream.media.encoding import ContainerKind
from comfystream.media.sound import SampleReader, Seam

__all__ = ["AudioCopy", "AudioEncode", "CopiedTrack", "EncodedTrack", "RecodedTrack", "open_track"]


@dataclass(frozen=True, slots=True)
class AudioCopy:
    """The sound of another file as it is; encoded anew only where the container cannot hold its codec."""

    path: str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class AudioEncode:
    """Sound that is written frame by frame, in the sample rate given here; mono is put on both channels."""

    sample_rate: int = 48_000


def open_track(
    container: OutputContainer, kind: ContainerKind, copy: AudioCopy, bitrate: int
) -> CopiedTrack | RecodedTrack | None:
    """A track for the sound of another file; None when it has none."""
    source = open_input(Path(copy.path))
    stream = first_audio(source)
    if stream is None:
        source.close()
        return None
    if stream.codec_context.name in kind.holds:
        return CopiedTrack(container, source, stream)
    return RecodedTrack(container, source, stream, kind.audio, bitrate)


class CopiedTrack:
    """Packets from one container into another, their times moved to the source's media time."""

    how = "copied"

    def __init__(self, container: OutputContainer, source: InputContainer, stream: AudioStream) -> None:
        self._source = source
        self._out = container.add_stream_from_template(stream)
        self._packets = source.demux(stream)
        self._origin = origin_of(source)
        self._ahead: Any = None
        self._last: int | None = None

    def until(self, time_s: Fraction | None) -> Iterator[Any]:
        """Packets up to a media time, None = all that is left."""
        while (packet := self._next()) is not None:
            if time_s is not None and packet.pts * packet.time_base > time_s:
                return
            self._ahead = None
            packet.stream = self._out
            yield packet

    def flush(self) -> list[Any]:
        """Nothing is held."""
        return []

    def close(self) -> None:
        """Close the file that the sound comes from."""
        self._source.close()

    def _next(self) -> Any:
        while self._ahead is None:
            try:
                packet: Any = next(self._packets)
            except (StopIteration, av.error.FFmpegError):  # who reads the pictures reports a file that breaks off
                return None
            if packet.pts is None:
                continue
            shift = rescale(1, self._origin, packet.time_base)
            packet.pts = packet.pts - shift
            if self._last is not None and packet.pts <= self._last:
                continue
            packet.dts = self._last = packet.pts
            self._ahead = packet
        return self._ahead


class EncodedTrack:
    """Float sound to packets, without holes: silence is put where there is none."""

    how = "encoded"

    def __init__(self, container: OutputContainer, codec: str, sample_rate: int, bitrate: int) -> None:
        encoder = av.Codec(codec, "w")
        rates = encoder.audio_rates or [sample_rate]
        self._rate = sample_rate if sample_rate in rates else 48_000
        stream = cast(AudioStream, container.add_stream(codec, rate=self._rate))
        context: Any = stream.codec_context
        context.layout = "stereo"
        if not codec.startswith("pcm"):
            context.bit_rate = bitrate
        self._stream = stream
        self._resampler: Any = None
        self._seam: Seam | None = None
        self._source_rate = 0
        self._written = 0

    def encode(self, frame: AudioFrame) -> list[Any]:
        """Packets that are ready."""
        if frame.sample_rate != self._source_rate:
            self._restart(frame)
        assert self._seam is not None
        samples = self._seam.align(frame, _stereo(frame.samples))
        if not samples.shape[1]:
            return []
        sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.float32), "fltp", "stereo")
        sound.sample_rate = self._source_rate
        return self._encode_all(self._resampler.resample(sound))

    def flush(self) -> list[Any]:
        """The rest of the packets."""
        rest = self._encode_all(self._resampler.resample(None)) if self._resampler is not None else []
        return [*rest, *self._stream.encode(None)]

    def _restart(self, frame: AudioFrame) -> None:
        start = Fraction(self._written, self._rate)
        self._source_rate = frame.sample_rate
        self._resampler = av.AudioResampler("fltp", "stereo", self._rate)
        self._seam = Seam(frame.sample_rate, rescale(1, start, Fraction(1, frame.sample_rate)))

    def _encode_all(self, sounds: list[av.AudioFrame]) -> list[Any]:
        packets: list[Any] = []
        for sound in sounds:
            sound.pts, sound.time_base = self._written, Fraction(1, self._rate)
            self._written += sound.samples
            packets += self._stream.encode(sound)
        return packets


class RecodedTrack:
    """The sound of another file, decoded and encoded for a container that cannot hold its codec."""

    how = "encoded"

    def __init__(
        self, container: OutputContainer, source: InputContainer, stream: AudioStream, codec: str, bitrate: int
    ) -> None:
        self._source = source
        self._rate = stream.codec_context.sample_rate
        self._frames = source.decode(stream)
        self._origin = origin_of(source)
        self._reader = SampleReader()
        self._track = EncodedTrack(container, codec, self._rate, bitrate)
        self._ahead: AudioFrame | None = None

    def until(self, time_s: Fraction | None) -> Iterator[Any]:
        """Packets up to a media time, None = all that is left."""
        while (frame := self._next()) is not None:
            if time_s is not None and frame.pts * frame.time_base > time_s:
                return
            self._ahead = None
            yield from self._track.encode(frame)

    def flush(self) -> list[Any]:
        """What the encoder still holds."""
        return self._track.flush()

    def close(self) -> None:
        """Close the file that the sound comes from."""
        self._source.close()

    def _next(self) -> AudioFrame | None:
        if self._ahead is None:
            try:
                sound = next(self._frames)
            except (StopIteration, av.error.FFmpegError):
                return None
            base = Fraction(1, self._rate)
            pts = rescale(1, Fraction(sound.time or 0) - self._origin, base)
            self._ahead = AudioFrame(0, pts, base, self._reader.read(sound), sound.sample_rate)
        return self._ahead


def _stereo(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Two channels: two as they are, any other number as its mean on both."""
    if samples.shape[0] == 2:
        return samples
    return np.repeat(samples if samples.shape[0] == 1 else samples.mean(axis=0, keepdims=True), 2, axis=0)
