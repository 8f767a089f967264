"""The size that a session's graph sees: as the pictures come, or one that was chosen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import av

from comfystream.errors import ConfigError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.media.scale import Scaler, SizeMode

__all__ = ["FrameSize", "SizeRule", "Sizer"]

LEAST, MOST = 16, 4096


class SizeRule(StrEnum):
    """How incoming pictures get their size."""

    FOLLOW = "follow"  # as they come
    FIT = "fit"  # all of the picture, with black bars
    FILL = "fill"  # no bars, the edges are cut off


@dataclass(frozen=True, slots=True)
class FrameSize:
    """A rule and a size.

    Attributes:
        rule: what is done to pictures.
        width, height: of the pictures that the graph gets; with `follow` only what is expected, for warming up.

    Raises:
        ConfigError: with `fit` and `fill`, sides that are odd or not within 16 to 4096.
    """

    rule: SizeRule = SizeRule.FOLLOW
    width: int = 512
    height: int = 512

    def __post_init__(self) -> None:
        if self.rule is SizeRule.FOLLOW:
            return
        for name, side in (("width", self.width), ("height", self.height)):
            if side % 2 or not LEAST <= side <= MOST:
                raise ConfigError(
                    f"{name} must be even and from {LEAST} to {MOST}, got {side}",
                    code="bad_size",
                    hint=f"{min(max(side - side % 2, LEAST), MOST)} would do",
                )

    @property
    def sides(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height


class Sizer:
    """Brings pictures to the size; used by one thread, told by any. What has the size already is not touched."""

    def __init__(self, size: FrameSize) -> None:
        self.size = size
        self.dropped = 0
        self._scaler = Scaler()

    def __call__(self, frame: VideoFrame | AudioFrame) -> VideoFrame | AudioFrame | None:
        """The frame for the graph; None for a picture that cannot be scaled, which is counted."""
        size = self.size
        if size.rule is SizeRule.FOLLOW or isinstance(frame, AudioFrame):
            return frame
        if (frame.image.width, frame.image.height) == size.sides:
            return frame
        try:
            image = self._scaler.resize(frame.image, size.sides, SizeMode(size.rule.value))
        except (av.FFmpegError, ValueError):
            self.dropped += 1
            return None
        return replace(frame, image=image)
