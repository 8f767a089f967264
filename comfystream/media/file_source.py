"""A media file as a source."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from comfystream.clock import rescale
from comfystream.errors import MediaError
from comfystream.frames import AudioFrame, Stamps, VideoFrame
from comfystream.media.container import first_audio, first_video, length_of, open_input, origin_of
from comfystream.media.decoder import Decoder
from comfystream.media.rotation import Rotator, display_steps
from comfystream.media.sound import SampleReader
from comfystream.media.source import AudioInfo, SourceInfo, VideoInfo
from comfystream.media.timeline import Timeline

__all__ = ["FileSource"]

_LOG = logging.getLogger(__name__)
_DEFAULT_FPS = Fraction(25)


class FileSource:
    """Pictures and sound of a file, decoded with as many threads as the codec can use.

    Media time 0 is where the first of video and sound starts. A frame is decoded when it is asked for.

    Args:
        path: any file that FFmpeg reads.
        video: give pictures; the file must have some.
        audio: True: give sound, the file must have some. False: none. None: if it has some.

    Raises:
        MediaError: no such file, empty, not media, or without what is asked for.
    """

    def __init__(self, path: str | os.PathLike[str], *, video: bool = True, audio: bool | None = False) -> None:
        self._path = Path(path)
        container = open_input(self._path)
        try:
            self._pictures = _PictureTrack(self._need_video(first_video(container))) if video else None
            sound = first_audio(container)
            wanted = self._need_audio(sound) if audio else (sound if audio is None else None)
            self._sound = _SoundTrack(wanted, origin_of(container)) if wanted is not None else None
            if self._pictures is not None:
                self._pictures.start_at(origin_of(container))
            streams = self._pictures.stream if self._pictures else None, wanted
            self._decoder = Decoder(container, str(self._path), *streams)
            self._decoded = self._decoder.frames()
            self._ahead = self._first_frames()
            self._info = self._describe(length_of(container))
        except BaseException:
            container.close()
            raise

    @property
    def info(self) -> SourceInfo:
        """What will come."""
        return self._info

    @property
    def damaged(self) -> int:
        """How many packets could not be decoded so far."""
        return self._decoder.damaged

    def frames(self) -> Iterator[VideoFrame | AudioFrame]:
        """Pictures and sound in the order of the file; once.

        Raises:
            MediaError: the file breaks off; what was readable has come out before.
        """
        while self._ahead:
            yield self._made(self._ahead.pop(0))
        for frame in self._decoded:
            yield self._made(frame)
        if self.damaged:
            _LOG.warning("%s: %d packets were damaged and left out", self._path, self.damaged)

    def close(self) -> None:
        """Close the file. Idempotent; may be called from another thread than the one that iterates."""
        self._decoder.close()

    def _need_video(self, stream: VideoStream | None) -> VideoStream:
        if stream is None:
            raise MediaError(f"{self._path} has no video stream", code="no_video", hint="there is no picture in it")
        return stream

    def _need_audio(self, stream: AudioStream | None) -> AudioStream:
        if stream is None:
            raise MediaError(
                f"{self._path} has no audio stream",
                code="no_audio",
                hint="the workflow needs sound; use a file with sound",
            )
        return stream

    def _first_frames(self) -> list[av.VideoFrame | av.AudioFrame]:
        """All up to the first picture, which knows its rotation."""
        ahead: list[av.VideoFrame | av.AudioFrame] = []
        if self._pictures is None:
            return ahead
        for frame in self._decoded:
            ahead.append(frame)
            if isinstance(frame, av.VideoFrame):
                self._pictures.see(frame)
                return ahead
        raise MediaError(f"{self._path}: no picture could be decoded", code="not_decodable", hint="the file is damaged")

    def _describe(self, length: Fraction | None) -> SourceInfo:
        return SourceInfo(
            name=self._path.name,
            video=self._pictures.info() if self._pictures else None,
            audio=self._sound.info() if self._sound else None,
            duration_s=float(length) if length else None,
        )

    def _made(self, frame: av.VideoFrame | av.AudioFrame) -> VideoFrame | AudioFrame:
        if isinstance(frame, av.VideoFrame):
            assert self._pictures is not None
            return self._pictures.make(frame)
        assert self._sound is not None
        return self._sound.make(frame)


def _decoded_now() -> Stamps:
    now = time.monotonic_ns()
    return Stamps(captured=now, decoded=now)


class _PictureTrack:
    """Numbers pictures, repairs their times and turns them upright."""

    def __init__(self, stream: VideoStream) -> None:
        self.stream = stream
        self._base = stream.time_base or Fraction(1, 90000)
        self._fps = stream.average_rate or stream.guessed_rate or _DEFAULT_FPS
        self._rotator = Rotator(())
        self._size = (0, 0)
        self._count = 0

    def start_at(self, origin: Fraction) -> None:
        step = rescale(1, 1 / self._fps, self._base)
        self._timeline = Timeline(rescale(1, origin, self._base), step, self._base)

    def see(self, first: av.VideoFrame) -> None:
        items: list[Any] = list(first.side_data)  # iterates over items, whatever its type hint says
        matrix = next((bytes(item) for item in items if item.type.name == "DISPLAYMATRIX"), None)
        self._rotation = -first.rotation % 360
        self._rotator = Rotator(display_steps(matrix))
        size = (first.width, first.height)
        self._size = (size[1], size[0]) if self._rotator.swaps_sides else size
        aspect = self.stream.sample_aspect_ratio or Fraction(1)
        self._aspect = 1 / aspect if self._rotator.swaps_sides else aspect

    def info(self) -> VideoInfo:
        stream = self.stream
        guessed = stream.base_rate or self._fps
        return VideoInfo(
            width=self._size[0],
            height=self._size[1],
            fps=self._fps,
            time_base=self._base,
            is_variable=abs(guessed / self._fps - 1) > Fraction(1, 100),
            frame_count=stream.frames or None,
            codec=stream.codec_context.name,
            rotation=self._rotation,
            sample_aspect=self._aspect,
        )

    def make(self, image: av.VideoFrame) -> VideoFrame:
        stamps = _decoded_now()
        pts = self._timeline.place(image.pts)
        image = self._rotator.turn(image)
        image.pts, image.time_base = pts, self._base
        frame = VideoFrame(self._count, pts, self._base, image, stamps)
        self._count += 1
        return frame


class _SoundTrack:
    """Numbers runs of sound and repairs their times."""

    def __init__(self, stream: AudioStream, origin: Fraction) -> None:
        self._stream = stream
        self._rate = stream.codec_context.sample_rate
        self._base = Fraction(1, self._rate)
        self._source_base = stream.time_base or self._base
        self._timeline = Timeline(rescale(1, origin, self._base), 1024, self._base)
        self._reader = SampleReader()
        self._count = 0

    def info(self) -> AudioInfo:
        return AudioInfo(self._rate, self._stream.codec_context.channels, self._stream.codec_context.name)

    def make(self, sound: av.AudioFrame) -> AudioFrame:
        base = sound.time_base or self._source_base
        pts = None if sound.pts is None else rescale(sound.pts, base, self._base)
        frame = AudioFrame(
            self._count, self._timeline.place(pts), self._base, self._reader.read(sound), self._rate, _decoded_now()
        )
        self._count += 1
        return frame
