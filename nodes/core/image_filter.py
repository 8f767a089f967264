"""Filters: blur, sharpen, blend, noise."""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io
from torch import Tensor

from .resampling import match_channels, resize

__all__ = ["NODES", "gaussian_blur"]


@lru_cache(maxsize=128)
def _gaussian_weights(radius: int, sigma: float) -> tuple[float, ...]:
    """2 * radius + 1 weights with sum 1; `sigma` is in units of the radius, as ComfyUI has it."""
    weights = [math.exp(-((step / radius) ** 2) / (2.0 * sigma * sigma)) for step in range(-radius, radius + 1)]
    total = math.fsum(weights)
    return tuple(weight / total for weight in weights)


def _blur_along(picture: Tensor, weights: tuple[float, ...], dim: int) -> Tensor:
    """Weighted sum of shifted copies along one dimension, mirrored at the edges (without repeating the edge)."""
    radius, length = len(weights) // 2, picture.shape[dim]
    out = picture * weights[radius]
    for shift in range(1, radius + 1):
        weight, rest = weights[radius - shift], length - shift
        out.narrow(dim, shift, rest).add_(picture.narrow(dim, 0, rest), alpha=weight)
        out.narrow(dim, 0, rest).add_(picture.narrow(dim, shift, rest), alpha=weight)
        out.narrow(dim, 0, shift).add_(picture.narrow(dim, 1, shift).flip(dim), alpha=weight)
        out.narrow(dim, rest, shift).add_(picture.narrow(dim, rest - 1, shift).flip(dim), alpha=weight)
    return out


@cache
def _opencv() -> Any | None:
    """The cv2 module, or None where it is not installed."""
    try:
        import cv2
    except ImportError:
        return None
    return cv2


def _blur_by_opencv(cv2: Any, picture: Tensor, weights: tuple[float, ...]) -> Tensor:
    """Both passes in one call: a third of the time at 720p, and the interpreter is let go once, not a dozen times."""
    kernel = np.array(weights, np.float32)
    blurred = torch.empty_like(picture, memory_format=torch.contiguous_format)
    for source, target in zip(picture.contiguous().numpy(), blurred.numpy(), strict=True):
        cv2.sepFilter2D(source, -1, kernel, kernel, dst=target, borderType=cv2.BORDER_REFLECT_101)
    return blurred


def _fits_opencv(picture: Tensor) -> bool:
    return (
        picture.device.type == "cpu"
        and picture.dtype == torch.float32
        and picture.shape[3] <= 4
        and not picture.requires_grad
    )


def gaussian_blur(picture: Tensor, radius: int, sigma: float) -> Tensor:
    """Gaussian blur of [batch, height, width, channels] as two one-dimensional passes.

    Args:
        picture: float tensor.
        radius: pixels to each side; must be smaller than height and width.
        sigma: standard deviation as a fraction of the radius.

    Raises:
        ValueError: the picture is too small for the radius.
    """
    height, width = picture.shape[1:3]
    if radius >= min(height, width):
        raise ValueError(f"radius {radius} is too large for a picture of {width}x{height}; make it smaller")
    weights = _gaussian_weights(radius, sigma)
    cv2 = _opencv()
    if cv2 is not None and _fits_opencv(picture):
        return _blur_by_opencv(cv2, picture, weights)
    return _blur_along(_blur_along(picture, weights, 1), weights, 2)


class ImageBlur(io.ComfyNode):
    """Gaussian blur."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageBlur",
            display_name="Blur Image",
            category="image/filters",
            inputs=[
                io.Image.Input("image"),
                io.Int.Input("blur_radius", default=1, min=1, max=31, step=1),
                io.Float.Input("sigma", default=1.0, min=0.1, max=10.0, step=0.1),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image: Tensor, blur_radius: int, sigma: float) -> io.NodeOutput:
        return io.NodeOutput(gaussian_blur(image, blur_radius, sigma) if blur_radius else image)


class ImageSharpen(io.ComfyNode):
    """Unsharp mask: the difference to the blurred picture, times ten alpha, is added."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageSharpen",
            display_name="Sharpen Image",
            category="image/filters",
            inputs=[
                io.Image.Input("image"),
                io.Int.Input("sharpen_radius", default=1, min=1, max=31, step=1, advanced=True),
                io.Float.Input("sigma", default=1.0, min=0.1, max=10.0, step=0.01, advanced=True),
                io.Float.Input("alpha", default=1.0, min=0.0, max=5.0, step=0.01, advanced=True),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image: Tensor, sharpen_radius: int, sigma: float, alpha: float) -> io.NodeOutput:
        if sharpen_radius == 0:
            return io.NodeOutput(image)
        blurred = gaussian_blur(image, sharpen_radius, sigma)
        return io.NodeOutput(blurred.sub_(image).mul_(-10.0 * alpha).add_(image).clamp_(0, 1))


def _soft_light(base: Tensor, top: Tensor) -> Tensor:
    """Soft light as in the W3C compositing specification."""
    dark = base - (1 - 2 * top) * base * (1 - base)
    curve = torch.where(base <= 0.25, ((16 * base - 12) * base + 4) * base, base.sqrt())
    return torch.where(top <= 0.5, dark, base + (2 * top - 1) * (curve - base))


def _overlay(base: Tensor, top: Tensor) -> Tensor:
    return torch.where(base <= 0.5, 2 * base * top, 1 - 2 * (1 - base) * (1 - top))


BLENDS = {
    "normal": lambda base, top: top,
    "multiply": lambda base, top: base * top,
    "screen": lambda base, top: 1 - (1 - base) * (1 - top),
    "overlay": _overlay,
    "soft_light": _soft_light,
    "difference": lambda base, top: base - top,
}


class ImageBlend(io.ComfyNode):
    """Mix two pictures; the second is brought to the size of the first."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageBlend",
            display_name="Blend Images",
            category="image/filters",
            essentials_category="Image Tools",
            inputs=[
                io.Image.Input("image1"),
                io.Image.Input("image2"),
                io.Float.Input("blend_factor", default=0.5, min=0.0, max=1.0, step=0.01),
                io.Combo.Input("blend_mode", options=list(BLENDS)),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image1: Tensor, image2: Tensor, blend_factor: float, blend_mode: str) -> io.NodeOutput:
        top = match_channels(image1, image2.to(image1.device))
        if top.shape[1:] != image1.shape[1:]:
            top = resize(top, image1.shape[2], image1.shape[1], "bicubic", "center")
        blended = BLENDS[blend_mode](image1, top)
        mixed = image1 * (1 - blend_factor)
        return io.NodeOutput(torch.add(mixed, blended, alpha=blend_factor).clamp_(0, 1))


@lru_cache(maxsize=2)
def _noise(seed: int, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Normal noise from the CPU generator (the same on every device); kept, for it is the same on every frame."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(shape, generator=generator, device="cpu").to(device, dtype)


class ImageAddNoise(io.ComfyNode):
    """Add normal noise."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageAddNoise",
            display_name="Add Noise to Image",
            category="image/filters",
            inputs=[
                io.Image.Input("image"),
                io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True),
                io.Float.Input("strength", default=0.5, min=0.0, max=1.0, step=0.01),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image: Tensor, seed: int, strength: float) -> io.NodeOutput:
        noise = _noise(seed, tuple(image.shape), image.device, image.dtype)
        return io.NodeOutput(torch.add(image, noise, alpha=strength).clamp_(0, 1))


NODES = [ImageAddNoise, ImageBlend, ImageBlur, ImageSharpen]
