"""What a source of frames is, and what it says about itself before the first one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from comfystream.frames import AudioFrame, VideoFrame

__all__ = ["AudioInfo", "Source", "SourceInfo", "VideoInfo"]


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """The pictures of a source.

    Attributes:
        width, height: as displayed, after rotation.
        fps: average pictures per second.
        is_variable: the spacing of pictures is not constant; their pts say when each is shown.
        time_base: unit of the frames' pts.
        frame_count: how many pictures will come; None when it is not known.
        codec: short name ("h264").
        rotation: degrees that the source turns each picture by (already done), 0, 90, 180 or 270.
        sample_aspect: width of a pixel over its height; not 1 for anamorphic video.
    """

    width: int
    height: int
    fps: Fraction
    time_base: Fraction
    is_variable: bool = False
    frame_count: int | None = None
    codec: str = ""
    rotation: int = 0
    sample_aspect: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """The sound of a source: samples per second, channels, short codec name ("aac")."""

    sample_rate: int
    channels: int
    codec: str = ""


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What a source will give.

    Attributes:
        name: for people (a file name).
        video, audio: None where there is none.
        duration_s: length in seconds; None when it is not known or has no end.
    """

    name: str
    video: VideoInfo | None
    audio: AudioInfo | None
    duration_s: float | None = None


class Source(Protocol):
    """Gives frames, on the thread that iterates; media time starts near 0 and sound and pictures share it."""

    @property
    def info(self) -> SourceInfo:
        """What will come."""
        ...

    def frames(self) -> Iterator[VideoFrame | AudioFrame]:
        """Pictures and sound, roughly in the order of media time; pts strictly increase per kind.

        Raises:
            MediaError: the source broke; what was readable has come out before.
        """
        ...

    def close(self) -> None:
        """Let go of files and devices. Idempotent."""
        ...
