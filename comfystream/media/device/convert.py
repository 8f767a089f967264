"""Planes to RGB and back in a handful of torch operations, the same on every device.

A chroma sample stands for its whole block in both directions. Nothing here waits for the device: all that comes from
the host are the constants of `ToRgb` and `FromRgb`, made once per colour. `kernels` does the same in one launch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from comfystream.media.colour import Colour, yuv_matrix
from comfystream.media.device.layout import Layout, PixelFormat

if TYPE_CHECKING:
    from comfystream.media.device.backend import DeviceBackend

__all__ = ["FromRgb", "ToRgb", "float_picture", "planes_to_rgb", "rgb_to_planes"]

TAKEN = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8)


@dataclass(frozen=True, slots=True)
class ToRgb:
    """What a stored sample adds to red, green and blue (0..1); each [3], float32, on the device.

    Attributes:
        luma, cb, cr: per unit of the sample.
        offset: where all samples are 0.
        grey: where luma is 0 and there is no colour.
        table: all of them, [5, 3], in this order; the others are its rows.
    """

    luma: Tensor
    cb: Tensor
    cr: Tensor
    offset: Tensor
    grey: Tensor
    table: Tensor

    @classmethod
    def of(cls, colour: Colour, format: PixelFormat, backend: DeviceBackend) -> ToRgb:
        """For pictures of that colour and format."""
        matrix = yuv_matrix(colour).astype(np.float64)
        scale = (255 / (2**format.bits - 1) if colour.full else 2.0 ** (8 - format.bits)) / format.unit
        inverse = np.linalg.inv(matrix[:, :3])
        neutral = 2.0 ** (format.bits - 1) * format.unit * scale
        black = np.array([matrix[0, 3], neutral, neutral])
        weights = inverse * scale / 255
        offset = -inverse @ black / 255
        grey = offset + inverse[:, 1:] @ black[1:] / 255
        table = backend.constant(np.stack((*weights.T, offset, grey)))
        return cls(table[0], table[1], table[2], table[3], table[4], table)


@dataclass(frozen=True, slots=True)
class FromRgb:
    """Weights of red, green and blue (0..1) in an 8-bit sample, and what is added before the fraction is cut off.

    Attributes:
        luma: [3]; chroma: [2, 3], Cb and Cr.
        luma_offset, chroma_offset: with half a step for rounding.
        table: all weights, [3, 3]: the rows of luma, Cb and Cr.
    """

    luma: Tensor
    chroma: Tensor
    table: Tensor
    luma_offset: float
    chroma_offset: float

    @classmethod
    def of(cls, colour: Colour, backend: DeviceBackend) -> FromRgb:
        """For pictures of that colour."""
        matrix: NDArray[np.float32] = yuv_matrix(colour)
        table = backend.constant(matrix[:, :3] * 255)
        offsets = [float(offset) + 0.5 for offset in matrix[:, 3]]
        return cls(table[0], table[1:], table, offsets[0], offsets[1])


def planes_to_rgb(buffer: Tensor, layout: Layout, weights: ToRgb, dtype: torch.dtype = torch.float32) -> Tensor:
    """[1, H, W, 3], RGB, 0..1, in memory of its own.

    Args:
        buffer: uint8 [layout.size], the planes.
        layout: of the buffer.
        weights: of its colour; not used for RGB.
        dtype: of the result; the arithmetic is float32.
    """
    format = layout.format
    if format.channels == 3:
        rgb = _first(buffer, layout).to(torch.float32).div_(2.0**format.bits - 1)
    elif not format.chroma:
        luma = _first(buffer, layout).to(torch.float32)
        rgb = torch.addcmul(weights.grey, luma, weights.luma).clamp_(0, 1)
    else:
        rgb = _from_blocks(buffer, layout, weights)
    return rgb[: layout.height, : layout.width].unsqueeze(0).to(dtype).contiguous()


def _from_blocks(buffer: Tensor, layout: Layout, weights: ToRgb) -> Tensor:
    columns, rows = layout.blocks
    across, down = layout.format.step
    chroma = _samples(buffer, layout, 1, len(layout.spots)).to(torch.float32)
    pairs = chroma.view(rows, columns, 2) if layout.format.chroma == 1 else chroma.view(2, rows, columns).movedim(0, -1)
    colour = torch.addcmul(weights.offset, pairs[..., :1], weights.cb)
    colour = torch.addcmul(colour, pairs[..., 1:], weights.cr)
    luma = _samples(buffer, layout, 0, 1).view(rows, down, columns, across, 1).to(torch.float32)
    rgb = torch.addcmul(colour.view(rows, 1, columns, 1, 3), luma, weights.luma).clamp_(0, 1)
    return rgb.view(rows * down, columns * across, 3)


def _first(buffer: Tensor, layout: Layout) -> Tensor:
    """The first plane as [rows, columns, channels]."""
    return _samples(buffer, layout, 0, 1).view(layout.spots[0].height, -1, layout.format.channels)


def _samples(buffer: Tensor, layout: Layout, first: int, end: int) -> Tensor:
    """The stored samples of some planes, flat."""
    samples = buffer[layout.spots[first].offset : layout.spots[end - 1].end]
    return samples if layout.format.sample_bytes == 1 else samples.view(torch.uint16)


def rgb_to_planes(picture: Tensor, buffer: Tensor, layout: Layout, weights: FromRgb) -> None:
    """Write a picture as the planes of yuv420p; chroma is the mean of its block.

    Args:
        picture: [H, W, 1 or 3], any float type (0..1; clamped, NaN is black) or uint8. Not changed.
        buffer: uint8 [layout.size] on the same device; rows and columns that no picture fills are written too.
        layout: yuv420p, of the picture's size.
        weights: of the colour to write.
    """
    columns, rows = layout.blocks
    across, down = layout.format.step
    rgb = _whole_blocks(_unit_range(picture), rows * down, columns * across)
    luma = (rgb * weights.luma).sum(-1).add_(weights.luma_offset)
    _samples(buffer, layout, 0, 1).view(rows * down, columns * across).copy_(luma)
    means = rgb.view(rows, down, columns, across, 3).mean((1, 3))
    chroma = (means.unsqueeze(-2) * weights.chroma).sum(-1).add_(weights.chroma_offset).clamp_(0, 255)
    _samples(buffer, layout, 1, 3).view(2, rows, columns).copy_(chroma.movedim(-1, 0))


def float_picture(picture: Tensor) -> Tensor:
    """The picture itself where its type is a usual one; other floats become float32, other integers parts of 255."""
    if picture.dtype in TAKEN:
        return picture
    unit = picture.to(torch.float32)
    return unit if picture.is_floating_point() else unit.div_(255)


def _unit_range(picture: Tensor) -> Tensor:
    """Float32, 0..1, three channels, in memory of its own."""
    picture = float_picture(picture)
    if picture.is_floating_point():
        unit = torch.nan_to_num(picture.to(torch.float32), 0.0, 1.0, 0.0).clamp_(0, 1)
    else:
        unit = picture.to(torch.float32).div_(255)
    return unit.expand(-1, -1, 3).contiguous() if unit.shape[-1] == 1 else unit


def _whole_blocks(rgb: Tensor, height: int, width: int) -> Tensor:
    """With the last row and column repeated where the size is odd."""
    if rgb.shape[0] < height:
        rgb = torch.cat((rgb, rgb[-1:]))
    if rgb.shape[1] < width:
        rgb = torch.cat((rgb, rgb[:, -1:]), 1)
    return rgb.contiguous()
