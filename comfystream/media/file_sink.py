"""A video file as a sink; it appears when it is complete."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
from av.container import OutputContainer

from comfystream.errors import MediaError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.media.audio_track import (
    AudioCopy,
    AudioEncode,
    CopiedTrack,
    EncodedTrack,
    RecodedTrack,
    open_track,
)
from comfystream.media.container import output_error
from comfystream.media.encoding import EncodeOptions, kind_of, video_settings
from comfystream.media.part_file import PartFile
from comfystream.media.video_track import VideoTrack

__all__ = ["AudioCopy", "AudioEncode", "FileSink", "Written"]

_HELD_SOUND_S = 120  # sound that may wait for the first picture, in seconds: 46 MB of 48 kHz stereo


@dataclass(frozen=True, slots=True)
class Written:
    """What a sink wrote.

    Attributes:
        path: the complete file.
        frames: how many pictures.
        duration_s: media time of the last one.
        size: in bytes.
        audio: "copied", "encoded" or "" (none).
    """

    path: Path
    frames: int
    duration_s: float
    size: int
    audio: str


class FileSink:
    """Encodes pictures and sound into a file. One thread writes.

    The size is that of the first picture, made even by repeating its last column or row; later ones of another size are
    fitted into it. Times are those of the frames. Until `finish` the file has a hidden name beside the target.

    Args:
        path: .mp4, .mov, .mkv, .webm and others (`encoding.CONTAINERS`); .m4a and .wav for sound alone.
        audio: sound of another file, sound that is written, or none.
        options: codec, quality, speed.
        fps: average, for the encoder's rate control.
        sample_aspect: width of a pixel over its height.
        overwrite: replace a file that is there.
        source: the input file, which must not be overwritten (that of `AudioCopy` is known).

    Raises:
        MediaError: the name or the folder cannot be written to.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        audio: AudioCopy | AudioEncode | None = None,
        options: EncodeOptions | None = None,
        fps: Fraction = Fraction(30),
        sample_aspect: Fraction = Fraction(1),
        overwrite: bool = False,
        source: str | os.PathLike[str] | None = None,
    ) -> None:
        self._path = Path(path)
        self._kind = kind_of(self._path)
        self._options = options or EncodeOptions()
        if self._kind.video:
            self._codec = video_settings(self._path, self._kind, self._options)
        self._audio = audio
        self._fps = fps
        self._sample_aspect = sample_aspect
        self._container: OutputContainer | None = None
        self._video: VideoTrack | None = None
        self._pulled: CopiedTrack | RecodedTrack | None = None
        self._pushed: EncodedTrack | None = None
        self._early: deque[AudioFrame] = deque()
        self._part = PartFile(
            self._path, overwrite=overwrite, source=audio.path if isinstance(audio, AudioCopy) else source
        )

    def write(self, frame: VideoFrame | AudioFrame) -> None:
        """Encode one frame; may wait for the disk.

        Raises:
            MediaError: the disk is full or the file cannot be written; what was written is removed.
        """
        with self._guard():
            if isinstance(frame, AudioFrame):
                self._write_sound(frame)
            else:
                self._write_picture(frame)

    def finish(self) -> Written:
        """Write what is still held, the rest of copied sound and the index; the file gets its name.

        Raises:
            MediaError: nothing was written, or the disk is full.
        """
        return self._complete(None)

    def keep_partial(self) -> Written:
        """As `finish`, with sound only as far as the pictures: for a run that was interrupted."""
        return self._complete(self._video.reached if self._video is not None else None)

    def abort(self) -> None:
        """Remove what was written. Idempotent."""
        with suppress(av.error.FFmpegError, OSError):
            self._close()
        self._part.discard()

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except MediaError:
            self.abort()
            raise
        except (av.error.FFmpegError, OSError) as error:
            self.abort()
            raise output_error(self._path, error) from error

    def _complete(self, sound_until: Fraction | None) -> Written:
        with self._guard():
            if self._container is None and self._early and not self._kind.video:
                self._open_sound()
            if self._container is None:
                raise MediaError(f"{self._path}: no picture came out, nothing is written", code="nothing_written")
            if self._video is not None:
                self._mux(self._video.flush())
            if self._pulled is not None:
                self._mux(self._pulled.until(sound_until))
                self._mux(self._pulled.flush())
            if self._pushed is not None:
                self._mux(self._pushed.flush())
            written = self._summary()
            self._close()
            self._part.publish()
        return Written(self._path, *written[:2], self._path.stat().st_size, written[2])

    def _summary(self) -> tuple[int, float, str]:
        how = self._pulled.how if self._pulled is not None else ("encoded" if self._pushed is not None else "")
        video = self._video
        return (video.count, float(video.reached), how) if video is not None else (0, 0.0, how)

    def _write_picture(self, frame: VideoFrame) -> None:
        if not self._kind.video:
            raise MediaError(f"{self._path}: {self._path.suffix} files hold no pictures", code="no_pictures")
        if self._video is None:
            self._open_pictures(frame)
        assert self._video is not None
        self._mux(self._video.encode(frame))
        if self._pulled is not None:
            self._mux(self._pulled.until(self._video.reached))

    def _write_sound(self, frame: AudioFrame) -> None:
        if not isinstance(self._audio, AudioEncode):
            return
        if self._container is None and not self._kind.video:
            self._open_sound()
        if self._pushed is None:
            self._early.append(frame)
            if frame.pts * frame.time_base - self._early[0].pts * self._early[0].time_base > _HELD_SOUND_S:
                raise MediaError(f"{self._path}: {_HELD_SOUND_S} s of sound came without a picture", code="no_pictures")
            return
        self._mux(self._pushed.encode(frame))

    def _open_pictures(self, first: VideoFrame) -> None:
        """The size of the file is known now."""
        self._container = container = self._open()
        codec, settings = self._codec
        self._video = VideoTrack(
            container,
            codec,
            settings,
            first,
            fps=self._fps,
            sample_aspect=self._sample_aspect,
            threads=self._options.threads,
        )
        self._open_tracks(container)

    def _open_sound(self) -> None:
        self._container = self._open()
        self._open_tracks(self._container)

    def _open(self) -> OutputContainer:
        return av.open(str(self._part.path), "w", options=dict(self._kind.options))

    def _open_tracks(self, container: OutputContainer) -> None:
        bitrate = self._options.audio_bitrate
        if isinstance(self._audio, AudioCopy):
            self._pulled = open_track(container, self._kind, self._audio, bitrate)
        elif self._audio is not None:
            self._pushed = EncodedTrack(container, self._kind.audio, self._audio.sample_rate, bitrate)
            while self._early:
                self._mux(self._pushed.encode(self._early.popleft()))

    def _mux(self, packets: Iterable[Any]) -> None:
        assert self._container is not None
        for packet in packets:
            self._container.mux(packet)

    def _close(self) -> None:
        if self._pulled is not None:
            self._pulled.close()
        container, self._container = self._container, None
        if container is not None:
            container.close()
