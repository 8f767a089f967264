"""Packets to decoded frames, going on over damage and noticing when a file breaks off."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

from comfystream.errors import MediaError
from comfystream.media.container import length_of, origin_of

__all__ = ["Decoder"]

_Decoded = av.VideoFrame | av.AudioFrame


class Decoder:
    """Reads one container to its end.

    Args:
        container: opened; closed by `close`.
        name: for messages.
        video, audio: what to decode; None is not decoded, but still read, to see how far the file reaches.
    """

    def __init__(
        self, container: InputContainer, name: str, video: VideoStream | None, audio: AudioStream | None
    ) -> None:
        self._container = container
        self._name = name
        self._wanted = [stream for stream in (video, audio) if stream is not None]
        self._lock = threading.Lock()
        self._closed = False
        self._origin = origin_of(container)
        self._main = video or audio
        self._ends: dict[int, Fraction] = {}
        self._cut = False
        self.damaged = 0
        if video is not None and not video.codec_context.is_hwaccel:
            video.thread_type = "AUTO"
            video.codec_context.thread_count = 0

    def frames(self) -> Iterator[_Decoded]:
        """Decoded pictures and sound in the order of the file.

        Raises:
            MediaError: the file ends before it should, says at which second.
        """
        packets = self._container.demux()
        indices = {stream.index for stream in self._wanted}
        while True:
            with self._lock:
                if self._closed:
                    return
                try:
                    packet = next(packets)
                except StopIteration:
                    break
                except av.error.FFmpegError as error:
                    raise self._broken(str(error.strerror)) from error
                frames = self._decode(packet) if packet.stream_index in indices else []
                self._note_end(packet)
            yield from frames
        if self._breaks_off():
            raise self._broken("the rest is missing")

    def close(self) -> None:
        """Close the file; waits for a frame that another thread decodes now. Idempotent."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._container.close()

    def _decode(self, packet: av.Packet[Any]) -> list[_Decoded]:
        try:
            return [frame for frame in packet.decode() if isinstance(frame, _Decoded)]
        except av.error.FFmpegError:  # one packet is damaged; the next key frame mends the picture
            self.damaged += 1
            return []

    def _note_end(self, packet: av.Packet[Any]) -> None:
        self._cut = self._cut or bool(packet.is_corrupt)
        time = packet.pts if packet.pts is not None else packet.dts
        if time is None or packet.time_base is None:
            return
        end = (time + (packet.duration or 0)) * packet.time_base
        index = packet.stream_index
        self._ends[index] = max(end, self._ends.get(index, end))

    def _breaks_off(self) -> bool:
        """Whether the main stream, or the file where streams do not tell, ends well before its announced end."""
        main = self._main
        if main is None:
            return False
        announced = _end(main)
        reached = self._ends.get(main.index, Fraction(0))
        if announced is None and self._container.duration:
            announced = Fraction(self._container.duration, av.time_base)
            reached = max(self._ends.values(), default=Fraction(0))
        if announced is None:
            return self._cut
        return reached < announced - (Fraction(1, 10) if self._cut else max(Fraction(1, 2), announced / 100))

    def _broken(self, reason: str) -> MediaError:
        end = self._ends.get(self._main.index, self._origin) if self._main is not None else self._origin
        length = length_of(self._container)
        of = f" of {float(length):.1f} s" if length else ""
        return MediaError(
            f"{self._name} breaks off at {float(end - self._origin):.1f} s{of}: {reason}",
            code="truncated",
            hint="what came before can be used",
        )


def _end(stream: VideoStream | AudioStream) -> Fraction | None:
    """Announced end in seconds of one stream: by its header, or by the tag that Matroska files carry (an end, too)."""
    if stream.duration is not None and stream.time_base is not None:
        return Fraction(((stream.start_time or 0) + stream.duration) * stream.time_base)
    parts = stream.metadata.get("DURATION", "").split(":")
    try:
        hours, minutes, seconds = (Fraction(part) for part in parts)
    except ValueError:
        return None
    return hours * 3600 + minutes * 60 + seconds
