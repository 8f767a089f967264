"""Pictures in memory that two processes share: one copy in, one copy out, whatever the pixel format."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import av
import numpy as np

from comfystream.media.planes import lines
from comfystream.media.scale import Scaler

__all__ = ["PackedImage", "pack", "packed_size", "unpack"]

# formats whose memory is not all in equal lines of planes
_CONVERTED = {"pal8": "rgba", "monob": "gray", "monow": "gray"}
_TAGS = ("colorspace", "color_range", "color_primaries", "color_trc")


@dataclass(frozen=True, slots=True)
class PackedImage:
    """What the bytes of a packed picture mean.

    Attributes:
        format, width, height: of the picture.
        size: how many bytes.
        tags: FFmpeg's numbers for matrix, range, primaries, transfer; None where this PyAV has no such tag.
        pts, time_base: of the picture, if it has them.
    """

    format: str
    width: int
    height: int
    size: int
    tags: tuple[int | None, ...]
    pts: int | None
    time_base: Fraction | None


@lru_cache(maxsize=64)
def _layout(format: str, width: int, height: int) -> tuple[tuple[int, int], ...]:
    """Bytes per line and lines of each plane, as a new picture of this format has them."""
    return tuple((plane.line_size, plane.height) for plane in av.VideoFrame(width, height, format).planes)


def packed_size(format: str, width: int, height: int) -> int:
    """Bytes that a picture takes (that of the format it is converted to, for the few that cannot be packed)."""
    return sum(line * rows for line, rows in _layout(_CONVERTED.get(format, format), width, height))


def pack(image: av.VideoFrame, buffer: Any) -> PackedImage:
    """Copy a picture into writable memory.

    Args:
        image: any picture in main memory; one with a palette or one bit per pixel is converted first.
        buffer: anything with the buffer protocol, at least `packed_size` bytes.

    Raises:
        ValueError: the buffer is too small.
    """
    name = image.format.name
    if name in _CONVERTED:
        image = Scaler().convert(image, _CONVERTED[name])
        name = _CONVERTED[name]
    memory = memoryview(buffer).cast("B")
    layout = _layout(name, image.width, image.height)
    size = sum(line * rows for line, rows in layout)
    if memory.nbytes < size:
        raise ValueError(f"a {name} picture of {image.width}x{image.height} needs {size} bytes, got {memory.nbytes}")
    start = 0
    for plane, (line, rows) in zip(image.planes, layout, strict=True):
        end = start + line * rows
        if plane.line_size == line:  # one copy, and half the time of the general way
            memory[start:end] = memoryview(plane)[: end - start]
        else:
            target = np.frombuffer(memory[start:end], np.uint8).reshape(rows, line)
            width = min(line, plane.line_size)  # both hold the pixels; what is more is padding
            target[:, :width] = lines(plane, rows)[:, :width]
        start = end
    tags = tuple(_tag(image, tag) for tag in _TAGS)
    return PackedImage(name, image.width, image.height, size, tags, image.pts, image.time_base)


def unpack(packed: PackedImage, buffer: Any) -> av.VideoFrame:
    """A new picture with a copy of the bytes; the buffer can be used again at once."""
    image = av.VideoFrame(packed.width, packed.height, packed.format)
    memory = memoryview(buffer).cast("B")
    start = 0
    for plane, (line, rows) in zip(image.planes, _layout(packed.format, packed.width, packed.height), strict=True):
        end = start + line * rows
        memoryview(plane)[: end - start] = memory[start:end]  # a new picture has the lines of the layout
        start = end
    for name, value in zip(_TAGS, packed.tags, strict=True):
        if value is not None:
            setattr(image, name, value)
    image.pts = packed.pts
    if packed.time_base is not None:
        image.time_base = packed.time_base
    return image


def _tag(image: av.VideoFrame, name: str) -> int | None:
    value = getattr(image, name, None)
    return None if value is None else int(value)
