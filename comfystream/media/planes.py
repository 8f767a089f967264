"""The memory of a picture's planes, as numpy arrays."""

from __future__ import annotations

import av
import numpy as np
from numpy.typing import NDArray

__all__ = ["blank", "byte_planes", "packed_plane"]


def byte_planes(image: av.VideoFrame) -> list[NDArray[np.uint8]]:
    """Planes of a planar 8-bit picture as writable views [rows, columns], without the padding of the lines."""
    return [
        np.frombuffer(plane, np.uint8)[: plane.line_size * plane.height].reshape(plane.height, plane.line_size)[
            :, : plane.width
        ]
        for plane in image.planes
    ]


def packed_plane(image: av.VideoFrame, channels: int, dtype: type[np.generic] = np.uint8) -> NDArray[np.generic]:
    """The one plane of a packed picture (rgb24, rgb48le, rgba) as a writable view [height, width, channels]."""
    plane = image.planes[0]
    lines = np.frombuffer(plane, np.uint8)[: plane.line_size * image.height].reshape(image.height, plane.line_size)
    row = image.width * channels * np.dtype(dtype).itemsize
    return lines[:, :row].view(dtype).reshape(image.height, image.width, channels)


def blank(width: int, height: int, black: int = 16) -> av.VideoFrame:
    """A black yuv420p picture; `black` is its luma."""
    image = av.VideoFrame(width, height, "yuv420p")
    for plane, value in zip(byte_planes(image), (black, 128, 128), strict=True):
        plane.fill(value)
    return image
