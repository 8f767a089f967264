"""What viewers see while something is loading: what it is, and how far it has come."""

from __future__ import annotations

import av

from comfystream.media.planes import byte_planes
from comfystream.media.slate import slate

__all__ = ["ProgressPictures", "progress_picture"]

_EMPTY, _FULL = 60, 170  # luma of the bar


def progress_picture(
    size: tuple[int, int], text: str, share: float | None = None, title: str = "Loading"
) -> av.VideoFrame:
    """A card with a bar at its foot, yuv420p. Some milliseconds: see `ProgressPictures`.

    Args:
        size: width and height; odd ones are made even.
        text: what is going on, wrapped.
        share: how much is done, 0..1; None draws no bar.
        title: in large letters above it.
    """
    width, height = (max(2, side & ~1) for side in size)
    image = slate(width, height, title, [text] if text else [])
    if share is not None:
        _bar(image, min(1.0, max(0.0, share)))
    return image


def _bar(image: av.VideoFrame, share: float) -> None:
    luma, *chroma = byte_planes(image)
    height, width = luma.shape
    margin, thick = max(2, width // 18) & ~1, max(2, height // 36) & ~1
    top, right = (height - 2 * thick - thick // 2) & ~1, width - margin
    done = margin + round((right - margin) * share)
    if top < 0 or right <= margin:
        return
    luma[top : top + thick, margin:right] = _EMPTY
    luma[top : top + thick, margin:done] = _FULL
    for plane in chroma:
        plane[top // 2 : (top + thick) // 2, margin // 2 : right // 2] = 128


class ProgressPictures:
    """Draws a picture when its words change, and hands out the same one meanwhile."""

    def __init__(self) -> None:
        self._drawn: tuple[object, ...] | None = None
        self._image: av.VideoFrame | None = None

    def picture(self, size: tuple[int, int], text: str, share: float | None = None) -> av.VideoFrame:
        """As `progress_picture`, its bar in steps of a hundredth."""
        share = None if share is None else round(share, 2)
        wanted = (size, text, share)
        if self._image is None or wanted != self._drawn:
            self._image, self._drawn = progress_picture(size, text, share), wanted
        return self._image
