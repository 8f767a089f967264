"""Drawings of a frame for ControlNets, made by torch where the frame is.

Those that need a model of their own come in as a picture that another node made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, interpolate, pad

from comfystream.errors import ConfigError

from .core.transfer import brought

__all__ = ["DRAWN", "FEEDBACK", "NAMES", "constant", "draw", "pictures_of"]

FEEDBACK = "feedback"
SOBEL_ACROSS = (-0.25, 0.0, 0.25, -0.5, 0.0, 0.5, -0.25, 0.0, 0.25)
SOBEL_DOWN = (-0.25, -0.5, -0.25, 0.0, 0.0, 0.0, 0.25, 0.5, 0.25)
WITH_MODEL = ("depth", "depth_tensorrt", "openpose", "pose_tensorrt", "mediapipe_pose", "mediapipe_segmentation", "hed")


@lru_cache(maxsize=32)
def constant(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Numbers on a device, brought there once, and not anew for every frame."""
    return brought(torch.tensor(values, dtype=dtype), device)


def pictures_of(
    image: Tensor, size: tuple[int, int], device: torch.device, dtype: torch.dtype, into: Tensor | None = None
) -> Tensor:
    """What a model looks at, in memory of its own: it may wait while nodes write into what came.

    Args:
        image: [frames, height, width, 3 or more] of 0..1.
        size: (width, height) to come out. Scaled before it is rounded to `dtype`, which not every processor can scale.
        device: where it is wanted.
        dtype: in which precision.
        into: where to write them, when there is such a place.

    Returns:
        [frames, 3, height, width] of 0..1.
    """
    picture = brought(image[..., :3], device).movedim(-1, 1)
    if tuple(picture.shape[-2:]) != (size[1], size[0]):
        picture = interpolate(picture.float(), (size[1], size[0]), mode="bilinear", antialias=True)
    if into is not None:
        return into.copy_(picture)
    return picture.to(dtype, copy=True, memory_format=torch.contiguous_format)


def _passthrough(picture: Tensor, parameters: Mapping[str, Any]) -> Tensor:
    return picture


def _canny(picture: Tensor, parameters: Mapping[str, Any]) -> Tensor:
    """Thresholds are given for pixels of 0..255, as OpenCV has them."""
    from ..core.canny import canny  # the pack of core nodes needs ComfyUI's modules, or the stand-ins for them

    low = float(parameters.get("low_threshold", 100)) / 255
    high = float(parameters.get("high_threshold", 200)) / 255
    edges = canny(picture.movedim(1, -1).float(), min(low, high), max(low, high))
    return edges[:, None].to(picture.dtype).expand(-1, 3, -1, -1)


@lru_cache(maxsize=32)
def _bell(radius: int, sigma: float) -> tuple[float, ...]:
    """A Gaussian of 2 * radius + 1 taps, which make 1 together."""
    taps = [math.exp(-((at / sigma) ** 2) / 2) for at in range(-radius, radius + 1)]
    return tuple(tap / sum(taps) for tap in taps)


def _blur(grey: Tensor, sigma: float) -> Tensor:
    radius = max(1, min(round(3 * sigma), min(grey.shape[-2:]) - 1))
    taps = constant(_bell(radius, sigma), grey.device, grey.dtype)
    across = conv2d(pad(grey, (radius, radius, 0, 0), mode="reflect"), taps.view(1, 1, 1, -1))
    return conv2d(pad(across, (0, 0, radius, radius), mode="reflect"), taps.view(1, 1, -1, 1))


def _grey(picture: Tensor) -> Tensor:
    weights = constant((0.299, 0.587, 0.114), picture.device, picture.dtype).view(1, 3, 1, 1)
    return (picture * weights).sum(1, keepdim=True)


def _line_art(picture: Tensor, parameters: Mapping[str, Any]) -> Tensor:
    """What is darker than its surroundings, white on black."""
    sigma = float(parameters.get("gaussian_sigma", 6.0))
    threshold = float(parameters.get("intensity_threshold", 8)) / 255
    grey = _grey(picture)
    depth = (_blur(grey, max(sigma, 0.3)) - grey).clamp_min(0)
    depth = torch.where(depth < threshold, torch.zeros_like(depth), depth)
    return (depth / depth.amax(dim=(1, 2, 3), keepdim=True).clamp_min(0.1)).expand(-1, 3, -1, -1)


def _soft_edge(picture: Tensor, parameters: Mapping[str, Any]) -> Tensor:
    """The slope of the brightness at two scales."""
    grey = _grey(picture)
    pair = constant((*SOBEL_ACROSS, *SOBEL_DOWN), grey.device, grey.dtype).view(2, 1, 3, 3)

    def slope(level: Tensor) -> Tensor:
        return conv2d(pad(level, (1, 1, 1, 1), mode="replicate"), pair).norm(dim=1, keepdim=True)

    both = torch.maximum(slope(grey), slope(_blur(grey, 2.0)) * 2)
    return avg_pool2d(both, 3, 1, 1).clamp(0, 1).expand(-1, 3, -1, -1)


def _sharpen(picture: Tensor, parameters: Mapping[str, Any]) -> Tensor:
    intensity = float(parameters.get("sharpen_intensity", 1.0))
    sigma = max(float(parameters.get("unsharp_radius", 1.0)), 0.3)
    rows = picture.flatten(0, 1)[:, None]
    return (picture + intensity * (picture - _blur(rows, sigma).view_as(picture))).clamp(0, 1)


DRAWN: dict[str, Callable[[Tensor, Mapping[str, Any]], Tensor]] = {
    "passthrough": _passthrough,
    "external": _passthrough,
    "canny": _canny,
    "standard_lineart": _line_art,
    "lineart": _line_art,
    "soft_edge": _soft_edge,
    "sharpen": _sharpen,
}
NAMES = (*DRAWN, FEEDBACK, *WITH_MODEL)


def draw(name: str, picture: Tensor, parameters: Mapping[str, Any], last_output: Tensor | None = None) -> Tensor:
    """The control picture of frames.

    Args:
        name: of the preprocessor.
        picture: [frames, 3, height, width] of 0..1.
        parameters: of the preprocessor; unknown ones are left alone.
        last_output: what the stream put out last, for "feedback"; the frames themselves at the beginning.

    Raises:
        ConfigError: an unknown preprocessor, or one that needs a model of its own.
    """
    if name == FEEDBACK:
        fits = last_output is not None and last_output.shape == picture.shape
        return last_output if fits and last_output is not None else picture
    if name in WITH_MODEL:
        raise ConfigError(
            f"preprocessor {name!r} needs a model of its own",
            code="preprocessor_needs_model",
            hint="let a node of a preprocessor pack draw it, and connect that to control_image",
        )
    if name not in DRAWN:
        raise ConfigError(f"preprocessor {name!r} is unknown", hint=f"one of: {', '.join(NAMES)}")
    return DRAWN[name](picture, parameters)
