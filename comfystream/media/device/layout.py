"""Where the planes of a picture lie in one buffer, and which pixel formats a device converts itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import av
import numpy as np
from numpy.typing import NDArray

from comfystream.media.planes import lines

__all__ = ["FORMATS", "Layout", "PixelFormat", "Spot", "fill", "layout_of", "nearest", "spill"]


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """How a pixel format stores its samples.

    Attributes:
        channels: samples per pixel of the first plane: 1 (luma) or 3 (packed RGB).
        step: columns and rows that share a chroma sample.
        bits: significant bits of a sample.
        unit: what a step of one is worth in a stored sample (64 where ten bits lie at the top of sixteen).
        chroma: planes of it: 0 (grey, RGB), 1 (Cb and Cr in turn), 2.
    """

    channels: int = 1
    step: tuple[int, int] = (2, 2)
    bits: int = 8
    unit: int = 1
    chroma: int = 2

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample."""
        return 1 if self.bits == 8 else 2


FORMATS = {
    "yuv420p": PixelFormat(),
    "yuvj420p": PixelFormat(),
    "nv12": PixelFormat(chroma=1),
    "yuv422p": PixelFormat(step=(2, 1)),
    "yuvj422p": PixelFormat(step=(2, 1)),
    "yuv444p": PixelFormat(step=(1, 1)),
    "yuvj444p": PixelFormat(step=(1, 1)),
    "yuv420p10le": PixelFormat(bits=10),
    "yuv422p10le": PixelFormat(step=(2, 1), bits=10),
    "yuv444p10le": PixelFormat(step=(1, 1), bits=10),
    "p010le": PixelFormat(bits=10, unit=64, chroma=1),
    "gray": PixelFormat(step=(1, 1), chroma=0),
    "rgb24": PixelFormat(channels=3, step=(1, 1), chroma=0),
    "rgb48le": PixelFormat(channels=3, step=(1, 1), bits=16, chroma=0),
}


def nearest(format: av.VideoFormat) -> str:
    """The name of the format here that keeps most of another one (alpha and more than ten bits of luma are lost)."""
    if format.name in FORMATS:
        return format.name
    is_deep = max((component.bits for component in format.components), default=8) > 8
    if format.is_rgb or format.has_palette or not format.components:
        return "rgb48le" if is_deep else "rgb24"
    halves = (format.chroma_width(4) < 4, format.chroma_height(4) < 4)
    name = {(False, False): "yuv444p", (True, False): "yuv422p"}.get(halves, "yuv420p")
    return f"{name}10le" if is_deep else name


@dataclass(frozen=True, slots=True)
class Spot:
    """A plane in the buffer.

    Attributes:
        offset: byte at which it begins.
        rows, row_bytes: what a picture fills of it.
        stride: bytes from one row to the next.
        height: rows that it has.
    """

    offset: int
    rows: int
    row_bytes: int
    stride: int
    height: int

    @property
    def end(self) -> int:
        """Byte after its last one."""
        return self.offset + self.stride * self.height


@dataclass(frozen=True, slots=True)
class Layout:
    """The planes of one size and format in one buffer, without gaps.

    The first plane has room for whole chroma blocks: an odd width or height has a column or row more that stays unused.
    """

    name: str
    format: PixelFormat
    width: int
    height: int
    spots: tuple[Spot, ...]

    @property
    def size(self) -> int:
        """Bytes of the buffer."""
        return self.spots[-1].end

    @property
    def blocks(self) -> tuple[int, int]:
        """Columns and rows of chroma samples."""
        across, down = self.format.step
        return -(-self.width // across), -(-self.height // down)


@lru_cache(maxsize=32)
def layout_of(name: str, width: int, height: int) -> Layout:
    """The layout of a format of `FORMATS` in that size."""
    format = FORMATS[name]
    across, down = format.step
    columns, rows = -(-width // across), -(-height // down)
    pixel = format.sample_bytes * format.channels
    spots = [Spot(0, height, width * pixel, columns * across * pixel, rows * down)]
    for _ in range(format.chroma):
        line = columns * format.sample_bytes * (2 if format.chroma == 1 else 1)
        spots.append(Spot(spots[-1].end, rows, line, line, rows))
    return Layout(name, format, width, height, tuple(spots))


def fill(buffer: NDArray[np.uint8], image: av.VideoFrame, layout: Layout) -> None:
    """Copy a picture's planes, without the padding of their lines.

    Args:
        buffer: at least `layout.size` bytes.
        image: of the layout's format and size.
    """
    for plane, spot in zip(image.planes, layout.spots, strict=True):
        target = buffer[spot.offset : spot.end].reshape(spot.height, spot.stride)
        target[: spot.rows, : spot.row_bytes] = lines(plane, spot.rows)[:, : spot.row_bytes]


def spill(buffer: NDArray[np.uint8], image: av.VideoFrame, layout: Layout) -> None:
    """The other way: copy planes out of a buffer into a picture."""
    for plane, spot in zip(image.planes, layout.spots, strict=True):
        source = buffer[spot.offset : spot.end].reshape(spot.height, spot.stride)
        lines(plane, spot.rows)[:, : spot.row_bytes] = source[: spot.rows, : spot.row_bytes]
