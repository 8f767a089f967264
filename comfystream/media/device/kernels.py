"""Planes to RGB and back as one Triton kernel each way. Imports Triton: `converter` decides whether it works here.

The arithmetic is that of `convert`, step by step and in float32. Each program reads what it needs from the planes or
from the picture and writes what comes of it: nothing lies in between, so nothing is allocated but the result. Numbers
of a size are not compiled in: another size is no other kernel.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from comfystream.media.device.convert import FromRgb, ToRgb, float_picture
from comfystream.media.device.layout import Layout

__all__ = ["planes_to_rgb", "rgb_to_planes"]

UP_BLOCK = 512  # values of the result per program: three a pixel, in the order in which they lie
DOWN_BLOCK = 128  # chroma samples per program
_UP_SIZES = ["width", "first_row", "chroma_row", "cb_at", "cr_at"]
_DOWN_SIZES = ["width", "height", "columns", "row_step", "column_step", "channel_step", "cb_at", "cr_at"]


@triton.jit(do_not_specialize=_UP_SIZES)
def _up(
    rgb: tl.tensor,
    planes: tl.tensor,
    weights: tl.tensor,
    width: tl.tensor,
    first_row: tl.tensor,
    chroma_row: tl.tensor,
    cb_at: tl.tensor,
    cr_at: tl.tensor,
    top: tl.tensor,
    CHANNELS: tl.constexpr,
    CHROMA: tl.constexpr,
    ACROSS: tl.constexpr,
    DOWN: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """A piece of a row of the picture; steps and places are counted in samples. `weights` is `ToRgb.table`."""
    y = tl.program_id(1)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < width * 3
    x = at // 3
    channel = at - x * 3
    if CHANNELS == 3:
        value = tl.div_rn(tl.load(planes + y * first_row + at, mask=inside, other=0).to(tl.float32), top)
    else:
        luma = tl.load(planes + y * first_row + x, mask=inside, other=0).to(tl.float32)
        if CHROMA == 0:
            base = tl.load(weights + 12 + channel)
        else:
            block = (y // DOWN) * chroma_row + (x // ACROSS) * (3 - CHROMA)
            cb = tl.load(planes + cb_at + block, mask=inside, other=0).to(tl.float32)
            cr = tl.load(planes + cr_at + block, mask=inside, other=0).to(tl.float32)
            base = tl.load(weights + 9 + channel) + cb * tl.load(weights + 3 + channel)
            base = base + cr * tl.load(weights + 6 + channel)
        value = tl.minimum(tl.maximum(base + luma * tl.load(weights + channel), 0.0), 1.0)
    tl.store(rgb + y * (width * 3) + at, value.to(rgb.dtype.element_ty), mask=inside)


@triton.jit
def _unit(source: tl.tensor, inside: tl.tensor, IS_FLOAT: tl.constexpr) -> tl.tensor:
    """Samples of a picture as 0..1; NaN is 0."""
    if IS_FLOAT:
        value = tl.load(source, mask=inside, other=0.0).to(tl.float32)
        value = tl.where(value == value, value, 0.0)
        value = tl.minimum(tl.maximum(value, 0.0), 1.0)
    else:
        value = tl.div_rn(tl.load(source, mask=inside, other=0).to(tl.float32), 255.0)
    return value


@triton.jit
def _code(value: tl.tensor) -> tl.tensor:
    """An 8-bit sample; the fraction is cut off."""
    return value.to(tl.int32).to(tl.uint8)


@triton.jit(do_not_specialize=_DOWN_SIZES)
def _down(
    picture: tl.tensor,
    planes: tl.tensor,
    weights: tl.tensor,
    width: tl.tensor,
    height: tl.tensor,
    columns: tl.tensor,
    row_step: tl.tensor,
    column_step: tl.tensor,
    channel_step: tl.tensor,
    cb_at: tl.tensor,
    cr_at: tl.tensor,
    luma_offset: tl.tensor,
    chroma_offset: tl.tensor,
    IS_FLOAT: tl.constexpr,
    ACROSS: tl.constexpr,
    DOWN: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """A piece of a row of chroma samples, and the luma of their blocks. `weights` is `FromRgb.table`."""
    row = tl.program_id(1)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = column < columns
    red_sum = tl.zeros((BLOCK,), tl.float32)
    green_sum = tl.zeros((BLOCK,), tl.float32)
    blue_sum = tl.zeros((BLOCK,), tl.float32)
    for dy in tl.static_range(DOWN):
        for dx in tl.static_range(ACROSS):
            y = row * DOWN + dy
            x = column * ACROSS + dx
            source = picture + tl.minimum(y, height - 1) * row_step + tl.minimum(x, width - 1) * column_step
            red = _unit(source, inside, IS_FLOAT)
            green = _unit(source + channel_step, inside, IS_FLOAT)
            blue = _unit(source + 2 * channel_step, inside, IS_FLOAT)
            luma = red * tl.load(weights) + green * tl.load(weights + 1) + blue * tl.load(weights + 2)
            tl.store(planes + y * (columns * ACROSS) + x, _code(luma + luma_offset), mask=inside)
            red_sum += red
            green_sum += green
            blue_sum += blue
    red_mean = red_sum * (1.0 / (ACROSS * DOWN))
    green_mean = green_sum * (1.0 / (ACROSS * DOWN))
    blue_mean = blue_sum * (1.0 / (ACROSS * DOWN))
    for plane in tl.static_range(2):
        own = weights + 3 * (plane + 1)
        value = red_mean * tl.load(own) + green_mean * tl.load(own + 1) + blue_mean * tl.load(own + 2)
        value = tl.minimum(tl.maximum(value + chroma_offset, 0.0), 255.0)
        at = cb_at if plane == 0 else cr_at
        tl.store(planes + at + row * columns + column, _code(value), mask=inside)


def planes_to_rgb(buffer: Tensor, layout: Layout, weights: ToRgb, dtype: torch.dtype = torch.float32) -> Tensor:
    """See `convert.planes_to_rgb`."""
    format, spots = layout.format, layout.spots
    across, down = format.step
    wide = format.sample_bytes
    planes = buffer if wide == 1 else buffer.view(torch.uint16)
    rgb = torch.empty((1, layout.height, layout.width, 3), dtype=dtype, device=buffer.device)
    chroma = spots[1] if format.chroma else spots[0]
    cb_at = chroma.offset // wide
    _up[triton.cdiv(layout.width * 3, UP_BLOCK), layout.height](
        rgb,
        planes,
        weights.table,
        layout.width,
        spots[0].stride // wide,
        chroma.stride // wide,
        cb_at,
        cb_at + 1 if format.chroma == 1 else spots[-1].offset // wide,
        float(2**format.bits - 1),
        CHANNELS=format.channels,
        CHROMA=format.chroma,
        ACROSS=across,
        DOWN=down,
        BLOCK=UP_BLOCK,
    )
    return rgb


def rgb_to_planes(picture: Tensor, buffer: Tensor, layout: Layout, weights: FromRgb) -> None:
    """See `convert.rgb_to_planes`."""
    picture = float_picture(picture)
    columns, rows = layout.blocks
    across, down = layout.format.step
    row_step, column_step, channel_step = picture.stride()
    _down[triton.cdiv(columns, DOWN_BLOCK), rows](
        picture,
        buffer,
        weights.table,
        layout.width,
        layout.height,
        columns,
        row_step,
        column_step,
        channel_step if picture.shape[-1] > 1 else 0,
        layout.spots[1].offset,
        layout.spots[2].offset,
        weights.luma_offset,
        weights.chroma_offset,
        IS_FLOAT=picture.is_floating_point(),
        ACROSS=across,
        DOWN=down,
        BLOCK=DOWN_BLOCK,
    )
