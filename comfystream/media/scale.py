"""Size and pixel format, by libswscale with a context that is kept between frames."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from comfystream.media.colour import Colour, colour_of, copy_tags, tag
from comfystream.media.planes import blank, byte_planes

__all__ = ["Scaler", "SizeMode", "pad_even", "placement"]

# PyAV 17 and later use a thread per core for each conversion unless told otherwise: four times the CPU of one at
# 512x512. Older releases have no such argument and use one thread.
_OLD = int(av.__version__.split(".")[0]) < 17
_ONE_THREAD: dict[str, Any] = {} if _OLD else {"threads": 1}


class SizeMode(StrEnum):
    """How a picture gets into a frame of another shape."""

    FIT = "fit"  # all of it, with black bars
    FILL = "fill"  # no bars, the edges are cut off
    STRETCH = "stretch"  # neither, but distorted


def placement(source: tuple[int, int], target: tuple[int, int], mode: SizeMode) -> tuple[int, int]:
    """Width and height that `source` is scaled to for `target`; even, so that chroma stays in place."""
    if mode is SizeMode.STRETCH or source == target:
        return target
    ratios = [t / s for s, t in zip(source, target, strict=True)]
    ratio = min(ratios) if mode is SizeMode.FIT else max(ratios)
    width, height = (
        t if ratio * s == t else max(2, 2 * round(ratio * s / 2)) for s, t in zip(source, target, strict=True)
    )
    return width, height


class Scaler:
    """Converts pictures; owned by one thread at a time."""

    def __init__(self) -> None:
        self._context = VideoReformatter()

    def convert(
        self,
        image: av.VideoFrame,
        format: str,
        size: tuple[int, int] | None = None,
        colour: Colour | None = None,
        interpolation: str | None = None,
    ) -> av.VideoFrame:
        """The picture in another pixel format, size and colour; the same object when nothing changes.

        Args:
            image: any picture.
            format: FFmpeg's name of the pixel format.
            size: width and height; None keeps them.
            colour: of the result; None keeps the matrix and range of `image` (a limited range for RGB input).
            interpolation: swscale's name, None = bilinear.
        """
        width, height = size or (image.width, image.height)
        came = colour_of(image)
        wanted = colour or (Colour(came.matrix) if image.format.is_rgb else came)
        if (image.width, image.height, image.format.name, came) == (width, height, format, wanted):
            return image
        result = self._context.reformat(
            image,
            width=width,
            height=height,
            format=format,
            src_colorspace=came.matrix,
            dst_colorspace=wanted.matrix,
            src_color_range=_range(image.format.name, came, wanted),
            dst_color_range=_range(format, wanted, came),
            interpolation=interpolation,
            **_ONE_THREAD,
        )
        copy_tags(image, result)
        if not _is_rgb(format):
            tag(result, wanted)
        return result

    def resize(self, image: av.VideoFrame, size: tuple[int, int], mode: SizeMode) -> av.VideoFrame:
        """The picture as yuv420p of exactly `size` (even width and height)."""
        scaled_size = placement((image.width, image.height), size, mode)
        scaled = self.convert(image, "yuv420p", scaled_size, interpolation="BICUBIC")
        return scaled if scaled_size == size else _place(scaled, size)


def _is_rgb(format: str) -> bool:
    return av.VideoFormat(format).is_rgb


def _range(format: str, own: Colour, other: Colour) -> int:
    """AVCOL_RANGE_* to tell swscale for one side of a conversion.

    PyAV before 17 sets swscale's matrix and range only where those of the two sides differ. swscale does not look at
    the range of an RGB side, so there it is given as the opposite of the other side's.
    """
    if _is_rgb(format):
        return 1 if _OLD and other.full else 2
    return 2 if own.full else 1


def _place(image: av.VideoFrame, size: tuple[int, int]) -> av.VideoFrame:
    """Centre a yuv420p picture on a black canvas, cutting what does not fit."""
    canvas = blank(size[0], size[1], black=0 if colour_of(image).full else 16)
    for source, target in zip(byte_planes(image), byte_planes(canvas), strict=True):
        cuts = [_overlap(s, t) for s, t in zip(source.shape, target.shape, strict=True)]
        (rows_in, rows_out), (columns_in, columns_out) = cuts
        target[rows_out, columns_out] = source[rows_in, columns_in]
    canvas.colorspace, canvas.color_range = image.colorspace, image.color_range
    copy_tags(image, canvas)
    return canvas


def _overlap(source: int, target: int) -> tuple[slice, slice]:
    length, inner = min(source, target), abs(source - target) // 2
    at, whole = slice(inner, inner + length), slice(0, length)
    return (at, whole) if source > target else (whole, at)


def pad_even(image: av.VideoFrame) -> av.VideoFrame:
    """A yuv420p picture with an even width and height: the last column and row are repeated where one is missing."""
    width, height = image.width + image.width % 2, image.height + image.height % 2
    if (width, height) == (image.width, image.height):
        return image
    padded = av.VideoFrame(width, height, "yuv420p")
    for source, target in zip(byte_planes(image), byte_planes(padded), strict=True):
        rows, columns = target.shape[0] - source.shape[0], target.shape[1] - source.shape[1]
        target[...] = np.pad(source, ((0, rows), (0, columns)), mode="edge")
    padded.colorspace, padded.color_range = image.colorspace, image.color_range
    copy_tags(image, padded)
    return padded
