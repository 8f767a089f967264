"""The pictures and the sound of something that is read: numbered, upright, with times that go forward."""

from __future__ import annotations

import time
from fractions import Fraction
from typing import Any

import av
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from comfystream.clock import rescale
from comfystream.frames import AudioFrame, Stamps, VideoFrame
from comfystream.media.rotation import Rotator, display_steps
from comfystream.media.sound import SampleReader
from comfystream.media.source import AudioInfo, VideoInfo
from comfystream.media.timeline import Timeline

__all__ = ["PictureTrack", "SoundTrack"]

_DEFAULT_FPS = Fraction(25)


def _decoded_now() -> Stamps:
    now = time.monotonic_ns()
    return Stamps(captured=now, decoded=now)


class PictureTrack:
    """Numbers pictures, repairs their times and turns them upright."""

    def __init__(self, stream: VideoStream) -> None:
        self.stream = stream
        self._base = stream.time_base or Fraction(1, 90000)
        self._fps = stream.average_rate or stream.guessed_rate or _DEFAULT_FPS
        self._rotator = Rotator(())
        self._rotation = 0
        self._aspect = stream.sample_aspect_ratio or Fraction(1)
        self.size = (0, 0)
        self.is_placed = False
        self._count = 0

    def start_at(self, origin: Fraction) -> None:
        """Media time 0 is at this second of the stream."""
        self.is_placed = True
        step = rescale(1, 1 / self._fps, self._base)
        self._timeline = Timeline(rescale(1, origin, self._base), step, self._base)

    def see(self, first: av.VideoFrame) -> None:
        """The first picture knows how it is turned."""
        items: list[Any] = list(first.side_data)  # iterates over items, whatever its type hint says
        matrix = next((bytes(item) for item in items if item.type.name == "DISPLAYMATRIX"), None)
        self._rotation = -first.rotation % 360
        self._rotator = Rotator(display_steps(matrix))
        size = (first.width, first.height)
        self.size = (size[1], size[0]) if self._rotator.swaps_sides else size
        aspect = self.stream.sample_aspect_ratio or Fraction(1)
        self._aspect = 1 / aspect if self._rotator.swaps_sides else aspect

    def info(self) -> VideoInfo:
        """What comes."""
        stream = self.stream
        guessed = stream.base_rate or self._fps
        return VideoInfo(
            width=self.size[0],
            height=self.size[1],
            fps=self._fps,
            time_base=self._base,
            is_variable=abs(guessed / self._fps - 1) > Fraction(1, 100),
            frame_count=stream.frames or None,
            codec=stream.codec_context.name,
            rotation=self._rotation,
            sample_aspect=self._aspect,
        )

    def make(self, image: av.VideoFrame) -> VideoFrame:
        """The next picture, upright."""
        stamps = _decoded_now()
        pts = self._timeline.place(image.pts)
        image = self._rotator.turn(image)
        image.pts, image.time_base = pts, self._base
        frame = VideoFrame(self._count, pts, self._base, image, stamps)
        self._count += 1
        return frame


class SoundTrack:
    """Numbers runs of sound and repairs their times."""

    def __init__(self, stream: AudioStream) -> None:
        self.stream = stream
        self._rate = stream.codec_context.sample_rate
        self._base = Fraction(1, self._rate)
        self._source_base = stream.time_base or self._base
        self._reader = SampleReader()
        self._count = 0

    def start_at(self, origin: Fraction) -> None:
        """Media time 0 is at this second of the stream."""
        self._timeline = Timeline(rescale(1, origin, self._base), 1024, self._base)

    def info(self) -> AudioInfo:
        """What comes."""
        return AudioInfo(self._rate, self.stream.codec_context.channels, self.stream.codec_context.name)

    def make(self, sound: av.AudioFrame) -> AudioFrame:
        """The next run of sound."""
        base = sound.time_base or self._source_base
        pts = None if sound.pts is None else rescale(sound.pts, base, self._base)
        frame = AudioFrame(
            self._count, self._timeline.place(pts), self._base, self._reader.read(sound), self._rate, _decoded_now()
        )
        self._count += 1
        return frame
