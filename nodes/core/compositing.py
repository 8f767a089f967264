"""Putting pictures over pictures: by a mask, by Porter and Duff, and the alpha channel."""

from __future__ import annotations

from collections.abc import Callable

import torch
from comfy_api.latest import io
from torch import Tensor
from torch.nn.functional import interpolate

from .limits import MAX_RESOLUTION
from .resampling import match_channels, repeat_batch, resize

__all__ = ["NODES"]


def _stretch(planes: Tensor, height: int, width: int) -> Tensor:
    """Bilinear [n, c, h, w] to a size; as it is when it has it."""
    return (
        planes if planes.shape[-2:] == (height, width) else interpolate(planes, size=(height, width), mode="bilinear")
    )


class ImageCompositeMasked(io.ComfyNode):
    """One picture over the other at x, y, where the mask is bright."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageCompositeMasked",
            display_name="Image Composite Masked",
            category="image/compositing",
            inputs=[
                io.Image.Input("destination"),
                io.Image.Input("source"),
                io.Int.Input("x", default=0, min=0, max=MAX_RESOLUTION, step=1),
                io.Int.Input("y", default=0, min=0, max=MAX_RESOLUTION, step=1),
                io.Boolean.Input("resize_source", default=False),
                io.Mask.Input("mask", optional=True),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(
        cls, destination: Tensor, source: Tensor, x: int, y: int, resize_source: bool, mask: Tensor | None = None
    ) -> io.NodeOutput:
        height, width = destination.shape[1:3]
        top = match_channels(destination, source.to(destination.device))
        if resize_source:
            top = _stretch(top.movedim(-1, 1), height, width).movedim(1, -1)
        top = repeat_batch(top, destination.shape[0])
        out = destination.clone()
        place = out[:, min(y, height) :, min(x, width) :][:, : top.shape[1], : top.shape[2]]
        if mask is None:
            place.copy_(top[:, : place.shape[1], : place.shape[2]])
            return io.NodeOutput(out)
        share = mask.to(destination.device, destination.dtype).reshape(-1, 1, mask.shape[-2], mask.shape[-1])
        share = repeat_batch(_stretch(share, top.shape[1], top.shape[2]), top.shape[0]).movedim(1, -1)
        seen = (slice(None), slice(place.shape[1]), slice(place.shape[2]))
        place.lerp_(top[seen], share[seen])
        return io.NodeOutput(out)


Layers = tuple[Tensor, Tensor]  # colour (times alpha) and alpha
Rule = Callable[[Tensor, Tensor, Tensor, Tensor], Layers]  # source colour, source alpha, destination colour and alpha


def _union(sa: Tensor, da: Tensor) -> Tensor:
    return sa + da - sa * da


def _overlay(s: Tensor, sa: Tensor, d: Tensor, da: Tensor) -> Layers:
    light = sa * da - 2 * (da - s) * (sa - d)
    return torch.where(2 * d < da, 2 * s * d, light), _union(sa, da)


def _outside(s: Tensor, sa: Tensor, d: Tensor, da: Tensor) -> Tensor:
    """What is in only one of the two."""
    return (1 - da) * s + (1 - sa) * d


# Porter and Duff, "Compositing digital images" (1984), and the blends that Android's PorterDuff.Mode adds
RULES: dict[str, Rule] = {
    "ADD": lambda s, sa, d, da: ((s + d).clamp(0, 1), (sa + da).clamp(0, 1)),
    "CLEAR": lambda s, sa, d, da: (torch.zeros_like(d), torch.zeros_like(da)),
    "DARKEN": lambda s, sa, d, da: (_outside(s, sa, d, da) + torch.minimum(s, d), _union(sa, da)),
    "DST": lambda s, sa, d, da: (d, da),
    "DST_ATOP": lambda s, sa, d, da: (sa * d + (1 - da) * s, sa),
    "DST_IN": lambda s, sa, d, da: (d * sa, sa * da),
    "DST_OUT": lambda s, sa, d, da: ((1 - sa) * d, (1 - sa) * da),
    "DST_OVER": lambda s, sa, d, da: (d + (1 - da) * s, da + (1 - da) * sa),
    "LIGHTEN": lambda s, sa, d, da: (_outside(s, sa, d, da) + torch.maximum(s, d), _union(sa, da)),
    "MULTIPLY": lambda s, sa, d, da: (s * d, sa * da),
    "OVERLAY": _overlay,
    "SCREEN": lambda s, sa, d, da: (s + d - s * d, _union(sa, da)),
    "SRC": lambda s, sa, d, da: (s, sa),
    "SRC_ATOP": lambda s, sa, d, da: (da * s + (1 - sa) * d, da),
    "SRC_IN": lambda s, sa, d, da: (s * da, sa * da),
    "SRC_OUT": lambda s, sa, d, da: ((1 - da) * s, (1 - da) * sa),
    "SRC_OVER": lambda s, sa, d, da: (s + (1 - sa) * d, sa + (1 - sa) * da),
    "XOR": lambda s, sa, d, da: (_outside(s, sa, d, da), (1 - da) * sa + (1 - sa) * da),
}
TRANSPARENT = 1e-5


class PorterDuffImageComposite(io.ComfyNode):
    """Two pictures with their masks (1 = transparent) by one of the rules of Porter and Duff."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PorterDuffImageComposite",
            display_name="Porter-Duff Image Composite",
            category="image/compositing",
            inputs=[
                io.Image.Input("source"),
                io.Mask.Input("source_alpha"),
                io.Image.Input("destination"),
                io.Mask.Input("destination_alpha"),
                io.Combo.Input("mode", options=list(RULES), default="DST"),
            ],
            outputs=[io.Image.Output(), io.Mask.Output()],
        )

    @classmethod
    def execute(
        cls, source: Tensor, source_alpha: Tensor, destination: Tensor, destination_alpha: Tensor, mode: str
    ) -> io.NodeOutput:
        if source.shape[-1] != destination.shape[-1]:
            raise ValueError(
                f"source has {source.shape[-1]} channels and destination {destination.shape[-1]}; both need the same"
            )
        layers = (source, source_alpha[..., None], destination, destination_alpha[..., None])
        count = min(layer.shape[0] for layer in layers)
        height, width = destination.shape[1:3]
        device = destination.device
        s, sm, d, dm = (resize(layer[:count].to(device), width, height, "bicubic", "center") for layer in layers)
        sa, da = 1 - sm, 1 - dm
        color, alpha = RULES[mode](s * sa, sa, d * da, da)
        plain = torch.where(alpha > TRANSPARENT, color / alpha, 0.0).clamp_(0, 1)
        return io.NodeOutput(plain, (1 - alpha).squeeze(-1))


class SplitImageWithAlpha(io.ComfyNode):
    """The colours and the mask (1 = transparent) of a picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SplitImageWithAlpha",
            display_name="Split Image with Alpha",
            category="image/compositing",
            inputs=[io.Image.Input("image")],
            outputs=[io.Image.Output(), io.Mask.Output()],
        )

    @classmethod
    def execute(cls, image: Tensor) -> io.NodeOutput:
        if image.shape[-1] > 3:
            return io.NodeOutput(image[..., :3], 1.0 - image[..., 3])
        return io.NodeOutput(image[..., :3], image.new_zeros(image.shape[:3]))


class JoinImageWithAlpha(io.ComfyNode):
    """A picture with an alpha channel from a mask (1 = transparent)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JoinImageWithAlpha",
            display_name="Join Image with Alpha",
            category="image/compositing",
            inputs=[io.Image.Input("image"), io.Mask.Input("alpha")],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image: Tensor, alpha: Tensor) -> io.NodeOutput:
        planes = alpha.to(image).reshape(-1, 1, alpha.shape[-2], alpha.shape[-1])
        opacity = 1.0 - _stretch(planes, *image.shape[1:3]).movedim(1, -1)
        count = max(image.shape[0], alpha.shape[0])
        return io.NodeOutput(torch.cat([repeat_batch(image[..., :3], count), repeat_batch(opacity, count)], dim=-1))


NODES = [ImageCompositeMasked, JoinImageWithAlpha, PorterDuffImageComposite, SplitImageWithAlpha]
