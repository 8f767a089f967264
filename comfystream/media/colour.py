"""Which matrix and range a picture's luma and chroma are in, and how that is told to others.

Numbers from ITU-T H.273 (matrix coefficients, the video_full_range_flag) as FFmpeg stores them on frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import av

__all__ = [
    "Colour",
    "Matrix",
    "colour_like",
    "colour_of",
    "copy_tags",
    "default_matrix",
    "is_rgb",
    "tag",
    "yuv_matrix",
]

_UNSPECIFIED = 2
_LIMITED, _FULL = 1, 2


class Matrix(IntEnum):
    """Luma weights; the value is libswscale's number for it."""

    BT601 = 5
    BT709 = 1
    BT2020 = 9

    @property
    def weights(self) -> tuple[float, float, float]:
        """Kr, Kg, Kb."""
        red, blue = {5: (0.299, 0.114), 1: (0.2126, 0.0722), 9: (0.2627, 0.0593)}[self.value]
        return red, 1.0 - red - blue, blue


# AVCOL_SPC_*: FCC, BT.470BG and SMPTE 170M share BT.601's weights to two digits; SMPTE 240M is close to BT.709
_FROM_TAG = {
    1: Matrix.BT709,
    4: Matrix.BT601,
    5: Matrix.BT601,
    6: Matrix.BT601,
    7: Matrix.BT709,
    9: Matrix.BT2020,
    10: Matrix.BT2020,
}
_TO_TAG = {Matrix.BT601: 6, Matrix.BT709: 1, Matrix.BT2020: 9}


@dataclass(frozen=True, slots=True)
class Colour:
    """How luma and chroma of a picture relate to RGB.

    Attributes:
        matrix: luma weights.
        full: luma uses 0..255 ("full", JPEG); otherwise 16..235 ("limited", video).
    """

    matrix: Matrix
    full: bool = False

    @property
    def tags(self) -> tuple[int, int]:
        """AVCOL_SPC_* and AVCOL_RANGE_*."""
        return _TO_TAG[self.matrix], _FULL if self.full else _LIMITED


def default_matrix(width: int, height: int) -> Matrix:
    """What players assume for an untagged picture: BT.601 up to 1024x576, BT.709 above."""
    return Matrix.BT601 if width <= 1024 and height <= 576 else Matrix.BT709


def is_rgb(image: av.VideoFrame) -> bool:
    """Whether the planes are red, green and blue."""
    return image.format.is_rgb


def colour_of(image: av.VideoFrame) -> Colour:
    """Colour of a picture by its tags; untagged, by its size, limited range."""
    matrix = _FROM_TAG.get(int(image.colorspace)) or default_matrix(image.width, image.height)
    name = image.format.name
    if is_rgb(image):
        return Colour(matrix, full=True)
    untagged_full = name.startswith(("yuvj", "gray")) and int(image.color_range) != _LIMITED
    return Colour(matrix, full=untagged_full or int(image.color_range) == _FULL)


def colour_like(like: av.VideoFrame | None, width: int, height: int) -> Colour:
    """Of a picture of that size that was made from `like`: what that one had, or what players assume."""
    if like is None or like.format.is_rgb:
        return Colour(default_matrix(width, height))
    came = colour_of(like)
    return came if not like.format.name.startswith("gray") else Colour(came.matrix)


def yuv_matrix(colour: Colour) -> NDArray[np.float32]:
    """3x4: 8-bit RGB to 8-bit Y, Cb, Cr (ITU-T H.273 equations 8-48 to 8-50 and their quantisation)."""
    return _MATRICES[colour]


def _compute(colour: Colour) -> NDArray[np.float32]:
    red, green, blue = colour.matrix.weights
    luma, chroma = (1.0, 1.0) if colour.full else (219 / 255, 224 / 255)
    y = np.array([red, green, blue])
    cb = (np.array([0, 0, 1]) - y) / (2 * (1 - blue))
    cr = (np.array([1, 0, 0]) - y) / (2 * (1 - red))
    offsets = [[0.0 if colour.full else 16.0], [128.0], [128.0]]
    return np.hstack([np.stack([y * luma, cb * chroma, cr * chroma]), offsets]).astype(np.float32)


_MATRICES = {colour: _compute(colour) for colour in (Colour(m, f) for m in Matrix for f in (False, True))}


def tag(image: av.VideoFrame, colour: Colour) -> None:
    """Write `colour` on the picture so that encoders and players need not guess."""
    image.colorspace, image.color_range = colour.tags


def copy_tags(source: av.VideoFrame, target: av.VideoFrame) -> None:
    """Carry what no conversion here touches from one picture to another: time, primaries and transfer curve."""
    target.pts = source.pts
    if source.time_base is not None:
        target.time_base = source.time_base
    for name in ("color_primaries", "color_trc"):
        value = getattr(source, name, None)  # PyAV before 16 has neither
        if value is not None and int(value) != _UNSPECIFIED:
            setattr(target, name, value)
