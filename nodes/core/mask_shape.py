"""Masks made softer, larger or smaller."""

from __future__ import annotations

from functools import lru_cache

import torch
from comfy_api.latest import io
from torch import Tensor
from torch.nn.functional import pad

from .limits import MAX_RESOLUTION
from .mask import flat, pixels
from .morphology import dilate

__all__ = ["NODES"]


@lru_cache(maxsize=32)
def _ramp(length: int, rise: int, fall: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Ones with a linear rise over the first `rise` and a linear fall over the last `fall` items."""
    steps = torch.arange(1, length + 1, dtype=torch.float64)
    up = (steps / (min(rise, length) or 1)).clamp_(max=1)
    down = (steps / (min(fall, length) or 1)).clamp_(max=1).flip(0)
    return (up * down).to(device, dtype)


class FeatherMask(io.ComfyNode):
    """Soften the sides of a mask."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FeatherMask",
            display_name="Feather Mask",
            category="image/mask",
            inputs=[io.Mask.Input("mask"), pixels("left"), pixels("top"), pixels("right"), pixels("bottom")],
            outputs=[io.Mask.Output()],
        )

    @classmethod
    def execute(cls, mask: Tensor, left: int, top: int, right: int, bottom: int) -> io.NodeOutput:
        masks = flat(mask)
        height, width = masks.shape[1:]
        across = _ramp(width, left, right, masks.device, masks.dtype)
        down = _ramp(height, top, bottom, masks.device, masks.dtype)
        return io.NodeOutput(masks * across * down[:, None])


def _dilate_diamond(masks: Tensor, radius: int) -> Tensor:
    """Maximum over all pixels that are at most `radius` steps (up, down, left, right) away.

    A diamond of radius a + b, b <= a, is the union of the four diamonds of radius a whose centres are b steps away; so
    a few rounds are enough. Beyond the edge the nearest pixel inside stands in, whose diamond is a part of the wanted.
    """
    height, width = masks.shape[1:]
    reached, out = 0, masks
    while reached < radius:
        step = max(1, min(reached, radius - reached))
        wide = pad(out[:, None], (step, step, step, step), mode="replicate")[:, 0]
        rows, columns = slice(step, step + height), slice(step, step + width)
        across = torch.maximum(wide[:, rows, :width], wide[:, rows, 2 * step :])
        along = torch.maximum(wide[:, :height, columns], wide[:, 2 * step :, columns])
        grown = torch.maximum(across, along)
        out = torch.maximum(grown, out) if reached == 0 else grown
        reached += step
    return out


class GrowMask(io.ComfyNode):
    """Grow a mask by some pixels, or shrink it (negative)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="GrowMask",
            display_name="Grow Mask",
            category="image/mask",
            inputs=[
                io.Mask.Input("mask"),
                pixels("expand", 0, -MAX_RESOLUTION),
                io.Boolean.Input("tapered_corners", default=True, advanced=True),
            ],
            outputs=[io.Mask.Output()],
        )

    @classmethod
    def execute(cls, mask: Tensor, expand: int, tapered_corners: bool) -> io.NodeOutput:
        masks = flat(mask)
        if expand == 0:
            return io.NodeOutput(masks)
        radius = min(abs(expand), masks.shape[1] + masks.shape[2])
        bright = masks if expand > 0 else masks.neg()
        if tapered_corners:
            grown = _dilate_diamond(bright, radius)
        else:
            grown = dilate(bright[..., None], 2 * radius + 1)[..., 0]
        return io.NodeOutput(grown if expand > 0 else grown.neg())


NODES = [FeatherMask, GrowMask]
