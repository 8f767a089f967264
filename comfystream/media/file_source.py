"""A media file as a source."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from comfystream.errors import MediaError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.media.container import first_audio, first_video, length_of, open_input, origin_of
from comfystream.media.decoder import Decoder
from comfystream.media.decoders import accelerator
from comfystream.media.source import SourceInfo
from comfystream.media.stream_tracks import PictureTrack, SoundTrack

__all__ = ["FileSource"]

_LOG = logging.getLogger(__name__)


class FileSource:
    """Pictures and sound of a file, decoded with as many threads as the codec can use.

    Media time 0 is where the first of video and sound starts. A frame is decoded when it is asked for.

    Args:
        path: any file that FFmpeg reads.
        video: give pictures; the file must have some.
        audio: True: give sound, the file must have some. False: none. None: if it has some.
        options: for FFmpeg.
        name: of the file in messages about what breaks while it is read; its path by default.
        decoder: of the pictures, one of `decoders.DECODERS`.

    Raises:
        MediaError: no such file, empty, not media, or without what is asked for.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        video: bool = True,
        audio: bool | None = False,
        options: Mapping[str, str] | None = None,
        name: str = "",
        decoder: str = "software",
    ) -> None:
        self._path = Path(path)
        container = open_input(self._path, options, accelerator(decoder) if video else None)
        try:
            self._pictures = PictureTrack(self._need_video(first_video(container))) if video else None
            sound = first_audio(container)
            wanted = self._need_audio(sound) if audio else (sound if audio is None else None)
            self._sound = SoundTrack(wanted) if wanted is not None else None
            if self._pictures is not None:
                self._pictures.start_at(origin_of(container))
            if self._sound is not None:
                self._sound.start_at(origin_of(container))
            streams = self._pictures.stream if self._pictures else None, wanted
            self._decoder = Decoder(container, name or str(self._path), *streams)
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
