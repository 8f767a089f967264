"""Opening media files, with errors for people, and where their time starts."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av
import av.error
from av.audio.stream import AudioStream
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from comfystream.errors import MediaError

__all__ = ["first_audio", "first_video", "length_of", "open_input", "origin_of", "output_error"]

# libav "plays" a text file as the screen of a terminal
_NOT_MEDIA = {"tty", "bin"}


def open_input(path: Path, options: Mapping[str, str] | None = None, hwaccel: HWAccel | None = None) -> InputContainer:
    """A container to read from; `options` are FFmpeg's, `hwaccel` decodes (see `decoders.accelerator`).

    Raises:
        MediaError: the file is missing, unreadable, empty, cut off before its index, or not media.
    """
    _check_readable(path)
    try:
        container = av.open(str(path), "r", options=dict(options or {}), hwaccel=hwaccel)
    except NotImplementedError as error:
        raise MediaError(
            f"NVDEC cannot decode {path}: {error}", code="no_decoder", hint="use the decoder auto or software"
        ) from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise _open_error(path, error) from error
    if container.format.name in _NOT_MEDIA:
        container.close()
        raise _not_media(path)
    return container


def _check_readable(path: Path) -> None:
    if path.is_dir():
        raise MediaError(f"{path} is a folder", code="not_media", hint="give a video file")
    if not path.exists():
        raise MediaError(f"{path} does not exist", code="not_found")
    if not os.access(path, os.R_OK):
        raise MediaError(f"{path} cannot be read", code="not_readable", hint="check its permissions")
    if path.is_file() and path.stat().st_size == 0:
        raise MediaError(f"{path} is empty (0 bytes)", code="empty")


def _open_error(path: Path, error: Exception) -> MediaError:
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] in (b"ftyp", b"mdat", b"moov"):
        return MediaError(
            f"{path} is cut off: the index of the video is missing",
            code="truncated",
            hint="it was not copied or recorded to its end",
        )
    if isinstance(error, av.error.InvalidDataError):
        return _not_media(path)
    reason = getattr(error, "strerror", None) or str(error)
    return MediaError(f"{path} cannot be opened: {reason}", code="not_readable")


def _not_media(path: Path) -> MediaError:
    return MediaError(
        f"{path} is not a video", code="not_media", hint="give a file that FFmpeg reads: mp4, mov, mkv, webm, avi, ..."
    )


def first_video(container: InputContainer) -> VideoStream | None:
    """The video to show; a cover picture in a sound file is none."""
    for stream in container.streams.video:
        if not _is_cover(stream):
            return stream
    return None


def _is_cover(stream: VideoStream) -> bool:
    return Disposition.attached_pic in stream.disposition


def first_audio(container: InputContainer) -> AudioStream | None:
    """The sound to play."""
    return container.streams.audio[0] if container.streams.audio else None


def origin_of(container: InputContainer) -> Fraction:
    """Seconds at which the first of video and sound starts: media time 0 of whatever reads this file."""
    starts = [
        stream.start_time * stream.time_base
        for stream in (first_video(container), first_audio(container))
        if stream is not None and stream.start_time is not None and stream.time_base is not None
    ]
    return Fraction(min(starts, default=0))


def length_of(container: InputContainer) -> Fraction | None:
    """Seconds from the first to the last moment; None when it is not known."""
    if not container.duration:
        return None
    length = Fraction(container.duration, av.time_base)
    starts_anywhere = "matroska" in container.format.name  # its header says the end, not the length
    return length - origin_of(container) if starts_anywhere else length


def output_error(path: Path, error: BaseException) -> MediaError:
    """What went wrong while `path` was written, in plain words."""
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return MediaError(f"{path}: no space left on the disk", code="disk_full", hint="free some space and run again")
    if number == errno.EFBIG:
        return MediaError(
            f"{path}: no space left, the file is as large as it may be", code="disk_full", hint="check `ulimit -f`"
        )
    reason = getattr(error, "strerror", None) or str(error)
    return MediaError(f"{path} cannot be written: {reason}", code="not_writable")
