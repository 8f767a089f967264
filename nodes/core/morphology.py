"""Erosion and dilation and what is made of them, and the YCbCr colour space, as kornia defines them."""

from __future__ import annotations

import torch
from comfy_api.latest import io
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["NODES", "dilate", "erode"]


def _dilate_along(planes: Tensor, size: int, before: int, vertical: bool) -> Tensor:
    """Maximum of `size` neighbours along one dimension of [n, c, h, w], the window starting `before` pixels earlier."""
    after = size - 1 - before
    sides = (0, 0, before, after) if vertical else (before, after, 0, 0)
    out = pad(planes, sides, value=float("-inf"))
    dim, width = (2 if vertical else 3), 1
    while width < size:  # a window of width w and the same one, moved by step <= w, give one of width w + step
        step = min(width, size - width)
        length = out.shape[dim] - step
        out = torch.maximum(out.narrow(dim, 0, length), out.narrow(dim, step, length))
        width += step
    return out


def _dilate(picture: Tensor, size: int, before: int) -> Tensor:
    planes = picture.movedim(-1, 1)
    return _dilate_along(_dilate_along(planes, size, before, True), size, before, False).movedim(1, -1)


def dilate(picture: Tensor, size: int) -> Tensor:
    """Each pixel becomes the largest in a square of `size`; [batch, height, width, channels].

    What is outside the picture does not count. The square of an even size reaches one pixel further to the right and
    below.
    """
    return _dilate(picture, size, size - size // 2 - 1)


def erode(picture: Tensor, size: int) -> Tensor:
    """Each pixel becomes the smallest in a square of `size`; an even size reaches further to the left and above."""
    return _dilate(picture.neg(), size, size // 2).neg()


MORPHOLOGIES = {
    "erode": erode,
    "dilate": dilate,
    "open": lambda picture, size: dilate(erode(picture, size), size),
    "close": lambda picture, size: erode(dilate(picture, size), size),
    "gradient": lambda picture, size: dilate(picture, size) - erode(picture, size),
    "bottom_hat": lambda picture, size: erode(dilate(picture, size), size) - picture,
    "top_hat": lambda picture, size: picture - dilate(erode(picture, size), size),
}


class Morphology(io.ComfyNode):
    """Grow or shrink what is bright."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Morphology",
            display_name="Apply Morphology",
            category="image/filters",
            inputs=[
                io.Image.Input("image"),
                io.Combo.Input("operation", options=list(MORPHOLOGIES)),
                io.Int.Input("kernel_size", default=3, min=3, max=999, step=1),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image: Tensor, operation: str, kernel_size: int) -> io.NodeOutput:
        return io.NodeOutput(MORPHOLOGIES[operation](image, kernel_size))


class ImageRGBToYUV(io.ComfyNode):
    """Split into luma and two colour differences (full-range YCbCr)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageRGBToYUV",
            display_name="Image RGB to YUV",
            category="image/color",
            inputs=[io.Image.Input("image")],
            outputs=[io.Image.Output(display_name=name) for name in ("Y", "U", "V")],
        )

    @classmethod
    def execute(cls, image: Tensor) -> io.NodeOutput:
        red, green, blue = image.split(1, dim=-1)
        luma = (0.299 * red).add_(green, alpha=0.587).add_(blue, alpha=0.114)
        planes = (luma, (blue - luma).mul_(0.564).add_(0.5), (red - luma).mul_(0.713).add_(0.5))
        return io.NodeOutput(*(plane.expand_as(image) for plane in planes))


class ImageYUVToRGB(io.ComfyNode):
    """Put luma and two colour differences together again."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageYUVToRGB",
            display_name="Image YUV to RGB",
            category="image/color",
            inputs=[io.Image.Input(name) for name in ("Y", "U", "V")],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, Y: Tensor, U: Tensor, V: Tensor) -> io.NodeOutput:
        luma = Y.mean(dim=-1, keepdim=True)
        u, v = U.mean(dim=-1, keepdim=True).sub_(0.5), V.mean(dim=-1, keepdim=True).sub_(0.5)
        # the inverse of the factors 0.564 and 0.713 above, and what follows from them for green
        red = torch.add(luma, v, alpha=1 / 0.713)
        green = torch.add(luma, v, alpha=-0.299 / (0.587 * 0.713)).add_(u, alpha=-0.114 / (0.587 * 0.564))
        blue = torch.add(luma, u, alpha=1 / 0.564)
        return io.NodeOutput(torch.cat((red, green, blue), dim=-1).clamp_(0, 1))


NODES = [ImageRGBToYUV, ImageYUVToRGB, Morphology]
