"""What goes out for a picture while nothing comes from what should process it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from comfystream.frames import VideoFrame
from comfystream.media.slate import slate

if TYPE_CHECKING:
    import av

__all__ = ["LoadingPicture", "Watch"]

DRAW_S = 0.4
STALL_S = 1.0


class LoadingPicture:
    """A card that says what is going on; drawn anew a few times a second at most."""

    def __init__(self) -> None:
        self._card: tuple[tuple[int, int, str], av.VideoFrame] | None = None
        self._drawn = 0.0

    def for_frame(self, frame: VideoFrame, words: str) -> VideoFrame:
        """The card at the time of `frame` and in its size."""
        width, height = frame.image.width, frame.image.height
        key = (width + width % 2, height + height % 2, words)
        now = time.monotonic()
        is_other = self._card is None or self._card[0][:2] != key[:2]
        if is_other or (self._card is not None and self._card[0] != key and now - self._drawn > DRAW_S):
            self._card, self._drawn = (key, slate(key[0], key[1], "Loading...", [words])), now
        assert self._card is not None
        return replace(frame, image=self._card[1])


class Watch:
    """Knows whether pictures still come out while they go in."""

    def __init__(self) -> None:
        self._since: float | None = None

    def came(self) -> None:
        """One came out, or none is expected at the moment."""
        self._since = None

    def is_stalled(self) -> bool:
        """One went in: whether the last one came out too long ago."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
        return now - self._since > STALL_S
