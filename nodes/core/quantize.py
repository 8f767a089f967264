"""Fewer colours, by Pillow's median cut, with the dithers that ComfyUI offers."""

from __future__ import annotations

import math

import numpy as np
import torch
from comfy_api.latest import io
from PIL import Image
from torch import Tensor

__all__ = ["NODES"]


def _bayer(order: int) -> np.ndarray:
    """Ordered-dither thresholds [order, order] in float32, about -0.5..0.5; `order` is a power of two."""
    matrix = np.zeros((1, 1), np.float32)
    for level in range(1, int(math.log2(order)) + 1):
        quarter = np.float32(4**level)
        scaled = matrix * quarter
        rows = (
            (scaled - np.float32(1.5), scaled + np.float32(0.5)),
            (scaled + np.float32(1.5), scaled - np.float32(0.5)),
        )
        matrix = np.block([list(row) for row in rows]) / quarter
    return matrix


def _ordered(picture: Image.Image, palette: Image.Image, order: int) -> Image.Image:
    colors = len(palette.getpalette()) // 3
    pattern = np.float32(2 * 256 / colors) * _bayer(order) + np.float32(0.5)
    height, width = picture.height, picture.width
    tiled = np.tile(pattern, (-(-height // order), -(-width // order)))[:height, :width, None]
    shifted = np.clip(np.asarray(picture).astype(np.float32) + tiled, 0, 255).astype(np.uint8)
    return Image.fromarray(shifted).quantize(palette=palette, dither=Image.Dither.NONE)


def quantize(picture: Image.Image, colors: int, dither: str) -> Image.Image:
    """An RGB picture with at most `colors` colours. Pillow dithers only onto a given palette, so it is made first."""
    palette = picture.quantize(colors=colors)
    if dither.startswith("bayer"):
        return _ordered(picture, palette, int(dither.split("-")[-1]))
    chosen = Image.Dither.NONE if dither == "none" else Image.Dither.FLOYDSTEINBERG
    return picture.quantize(palette=palette, dither=chosen)


class ImageQuantize(io.ComfyNode):
    """Reduce the number of colours."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        dithers = ["none", "floyd-steinberg", "bayer-2", "bayer-4", "bayer-8", "bayer-16"]
        return io.Schema(
            node_id="ImageQuantize",
            display_name="Quantize Image",
            category="image/filters",
            inputs=[
                io.Image.Input("image"),
                io.Int.Input("colors", default=256, min=1, max=256, step=1),
                io.Combo.Input("dither", options=dithers),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image: Tensor, colors: int, dither: str) -> io.NodeOutput:
        pixels = image[..., :3].mul(255).to(torch.uint8).cpu().numpy()
        out = [np.array(quantize(Image.fromarray(item), colors, dither).convert("RGB")) for item in pixels]
        return io.NodeOutput(torch.from_numpy(np.stack(out)).to(image.device, image.dtype).div_(255))


NODES = [ImageQuantize]
