"""Canny edges with the conventions of kornia 0.9, which ComfyUI uses: same blur, Sobel, tie rules and hysteresis.

An edge map is a set of yes/no decisions on sums of floats, so the sums are made by the same convolutions in the same
order; what decides (non-maximum suppression, hysteresis) runs on plain comparisons.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from comfy_api.latest import io
from torch import Tensor
from torch.nn.functional import conv2d, pad

__all__ = ["NODES", "canny"]

EPS = 1e-6  # kornia's; a flat pixel has the magnitude sqrt(EPS)
STEPS_PER_LOOK = {"cpu": 2}  # hysteresis rounds between two looks whether anything changed; a look waits for the device
STEPS_PER_LOOK_ELSEWHERE = 16


@lru_cache(maxsize=8)
def _constants(device: torch.device) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    """Grey weights, the Gaussian (5 taps, sigma 1), and the Sobel pair (x, y)."""
    grey = tuple(torch.tensor(weight, device=device) for weight in (0.299, 0.587, 0.114))
    steps = torch.arange(5, dtype=torch.float32) - 2
    gauss = torch.exp(-steps.pow(2.0) / 2.0)
    sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    pair = torch.stack([sobel, sobel.T])[:, None].contiguous()
    return grey, (gauss / gauss.sum()).to(device), pair.to(device)


def _gradients(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Sobel gradients (x, y), each [batch, height, width], of the blurred grey picture."""
    grey, gauss, sobel = _constants(picture.device)
    if picture.shape[-1] >= 3:
        red, green, blue = picture[..., :3].unbind(-1)
        level = torch.addcmul(torch.addcmul(red * grey[0], green, grey[1]), blue, grey[2])
    else:
        level = picture[..., 0]
    level = conv2d(pad(level[:, None], (2, 2, 0, 0), mode="reflect"), gauss.view(1, 1, 1, 5))
    level = conv2d(pad(level, (0, 0, 2, 2), mode="reflect"), gauss.view(1, 1, 5, 1))
    both = conv2d(pad(level, (1, 1, 1, 1), mode="replicate"), sobel)
    return both[:, 0], both[:, 1]


def _ridges(across: Tensor, down: Tensor) -> Tensor:
    """The gradient's magnitude where it is a maximum along its direction, 0 elsewhere; [batch, height, width]."""
    height, width = across.shape[-2:]
    border = (1, 1, 1, 1)
    across_wide, down_wide = pad(across, border), pad(down, border)
    wide = torch.sqrt(across_wide * across_wide + down_wide * down_wide + EPS)

    def neighbour(dy: int, dx: int) -> Tensor:
        return wide[:, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]

    here = neighbour(0, 0)
    axis = torch.atan2(down, across).mul_(4 / math.pi).round_().remainder_(4)  # 0: -, 1: \, 2: |, 3: /
    # along - and | the pixel to the right (below) may be as strong, along a diagonal none
    level = (here >= neighbour(0, 1)) & (here > neighbour(0, -1)) & (axis == 0)
    upright = (here >= neighbour(1, 0)) & (here > neighbour(-1, 0)) & (axis == 2)
    falling = (here > neighbour(1, 1)) & (here > neighbour(-1, -1)) & (axis == 1)
    rising = (here > neighbour(1, -1)) & (here > neighbour(-1, 1)) & (axis == 3)
    keep = (level | upright | falling | rising) & (here > wide[:, :1, :1])
    return here * keep


def _grow(seed: Tensor, allowed: Tensor) -> Tensor:
    """One round: what is `allowed` and has a `seed` among its eight neighbours, or is one."""
    columns = seed.clone()
    columns[:, 1:] |= seed[:, :-1]
    columns[:, :-1] |= seed[:, 1:]
    out = columns.clone()
    out[:, :, 1:] |= columns[:, :, :-1]
    out[:, :, :-1] |= columns[:, :, 1:]
    return out.logical_and_(allowed)


def _connected(strong: Tensor, weak: Tensor) -> Tensor:
    """All weak pixels that hang together with a strong one."""
    steps = STEPS_PER_LOOK.get(strong.device.type, STEPS_PER_LOOK_ELSEWHERE)
    while True:
        grown = strong
        for _ in range(steps):
            grown = _grow(grown, weak)
        if torch.equal(grown, strong):
            return grown
        strong = grown


def canny(picture: Tensor, low: float, high: float) -> Tensor:
    """Edges of a batch of pictures.

    Args:
        picture: float [batch, height, width, channels], 0..1; 3 channels or more are RGB, else the first is grey.
        low: a pixel of this gradient magnitude is an edge if it hangs together with a strong one.
        high: a pixel of this gradient magnitude is a strong edge.

    Returns:
        Bool [batch, height, width].

    Raises:
        ValueError: `low` is above `high`.
    """
    if low > high:
        raise ValueError(f"low_threshold {low} is above high_threshold {high}; it must not be larger")
    ridges = _ridges(*_gradients(picture.to(torch.float32)))
    return _connected(ridges > high, ridges > low)


class Canny(io.ComfyNode):
    """White edges on black."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Canny",
            display_name="Detect Edges (Canny)",
            category="image/filters",
            essentials_category="Image Tools",
            inputs=[
                io.Image.Input("image"),
                io.Float.Input("low_threshold", default=0.4, min=0.01, max=0.99, step=0.01),
                io.Float.Input("high_threshold", default=0.8, min=0.01, max=0.99, step=0.01),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image: Tensor, low_threshold: float, high_threshold: float) -> io.NodeOutput:
        edges = canny(image, low_threshold, high_threshold)
        return io.NodeOutput(edges[..., None].expand(-1, -1, -1, 3).to(torch.float32).contiguous())


NODES = [Canny]
