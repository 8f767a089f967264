"""The memory of a picture's planes, as numpy arrays."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

__all__ = ["blank", "byte_planes", "lines", "packed_plane"]


def byte_planes(image: av.VideoFrame) -> list[NDArray[np.uint8]]:
    """Planes of a planar 8-bit picture as writable views [rows, columns], without the padding of the lines."""
    return [lines(plane, plane.height)[:, : plane.width] for plane in image.planes]


def lines(plane: Any, height: int) -> NDArray[np.uint8]:
    """The memory of a plane as a writable view [height, bytes per line], padding included."""
    memory: NDArray[np.uint8] = np.frombuffer(plane, np.uint8)
    return memory[: plane.line_size * height].reshape(height, plane.line_size)


def packed_plane(image: av.VideoFrame, channels: int, dtype: type[np.generic] = np.uint8) -> NDArray[Any]:
    """The one plane of a packed picture (rgb24, rgb48le, rgba) as a writable view [height, width, channels]."""
    row = image.width * channels * np.dtype(dtype).itemsize
    pixels = lines(image.planes[0], image.height)[:, :row].view(dtype)
    return pixels.reshape(image.height, image.width, channels)


def blank(width: int, height: int, black: int = 16) -> av.VideoFrame:
    """A black yuv420p picture; `black` is its luma."""
    image = av.VideoFrame(width, height, "yuv420p")
    for plane, value in zip(byte_planes(image), (black, 128, 128), strict=True):
        plane.fill(value)
    return image
