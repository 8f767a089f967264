"""Small types that nodes hand around."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from ._geometry import MESH, SPLAT, SVG, VOXEL, File3D

__all__ = ["MESH", "SPLAT", "SVG", "VOXEL", "File3D", "VideoCodec", "VideoComponents", "VideoContainer"]


class VideoContainer(StrEnum):
    """File formats."""

    AUTO = "auto"
    MP4 = "mp4"

    @classmethod
    def as_input(cls) -> list[str]:
        """All values, for a combo."""
        return [member.value for member in cls]

    @classmethod
    def get_extension(cls, value: Any) -> str:
        """File name extension, without the dot."""
        return "mp4" if cls(value) in (cls.MP4, cls.AUTO) else ""


class VideoCodec(StrEnum):
    """Codecs."""

    AUTO = "auto"
    H264 = "h264"

    @classmethod
    def as_input(cls) -> list[str]:
        """All values, for a combo."""
        return [member.value for member in cls]


class VideoComponents:
    """A clip in parts: pictures [B, H, W, C], frame rate, sound."""

    def __init__(self, images: Any, frame_rate: Any, audio: Any = None, metadata: Any = None, **more: Any) -> None:
        self.images = images
        self.frame_rate = frame_rate
        self.audio = audio
        self.metadata = metadata
        self.__dict__.update(more)
