"""Masks: make, convert, crop, combine, show."""

from __future__ import annotations

import torch
from comfy_api.latest import io
from torch import Tensor

from .image_files import PreviewImage
from .limits import MAX_RESOLUTION

__all__ = ["NODES", "flat", "pixels"]

CHANNELS = ["red", "green", "blue", "alpha"]


def pixels(name: str, default: int = 0, low: int = 0) -> io.Int.Input:
    """A whole number of pixels."""
    return io.Int.Input(name, default=default, min=low, max=MAX_RESOLUTION, step=1)


def flat(mask: Tensor) -> Tensor:
    """[..., height, width] to [batch, height, width]."""
    return mask.reshape(-1, mask.shape[-2], mask.shape[-1])


class MaskToImage(io.ComfyNode):
    """A grey picture of the mask."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MaskToImage",
            display_name="Convert Mask to Image",
            category="image/mask",
            inputs=[io.Mask.Input("mask")],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, mask: Tensor) -> io.NodeOutput:
        return io.NodeOutput(flat(mask)[..., None].expand(-1, -1, -1, 3))


class ImageToMask(io.ComfyNode):
    """One channel of a picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageToMask",
            display_name="Convert Image to Mask",
            category="image/mask",
            inputs=[io.Image.Input("image"), io.Combo.Input("channel", options=CHANNELS)],
            outputs=[io.Mask.Output()],
        )

    @classmethod
    def execute(cls, image: Tensor, channel: str) -> io.NodeOutput:
        return io.NodeOutput(image[..., CHANNELS.index(channel)])


class ImageColorToMask(io.ComfyNode):
    """1 where a picture has exactly one colour, given as 0xRRGGBB."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        color = io.Int.Input("color", default=0, min=0, max=0xFFFFFF, step=1, display_mode=io.NumberDisplay.number)
        return io.Schema(
            node_id="ImageColorToMask",
            display_name="Convert Image Color to Mask",
            category="image/mask",
            inputs=[io.Image.Input("image"), color],
            outputs=[io.Mask.Output()],
        )

    @classmethod
    def execute(cls, image: Tensor, color: int) -> io.NodeOutput:
        levels = image[..., :3].clamp(0, 1).mul_(255).round_()
        same = [levels[..., place] == (color >> shift & 0xFF) for place, shift in enumerate((16, 8, 0))]
        return io.NodeOutput((same[0] & same[1] & same[2]).to(torch.float32))


class SolidMask(io.ComfyNode):
    """A mask of one value."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SolidMask",
            display_name="Create Solid Mask",
            category="image/mask",
            inputs=[
                io.Float.Input("value", default=1.0, min=0.0, max=1.0, step=0.01),
                pixels("width", 512, 1),
                pixels("height", 512, 1),
            ],
            outputs=[io.Mask.Output()],
        )

    @classmethod
    def execute(cls, value: float, width: int, height: int) -> io.NodeOutput:
        return io.NodeOutput(torch.full((1, height, width), value, dtype=torch.float32))


class InvertMask(io.ComfyNode):
    """Each value v becomes 1 - v."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InvertMask",
            display_name="Invert Mask",
            category="image/mask",
            inputs=[io.Mask.Input("mask")],
            outputs=[io.Mask.Output()],
        )

    @classmethod
    def execute(cls, mask: Tensor) -> io.NodeOutput:
        return io.NodeOutput(1.0 - mask)


class CropMask(io.ComfyNode):
    """A rectangle of a mask."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CropMask",
            display_name="Crop Mask",
            category="image/mask",
            inputs=[
                io.Mask.Input("mask"),
                pixels("x"),
                pixels("y"),
                pixels("width", 512, 1),
                pixels("height", 512, 1),
            ],
            outputs=[io.Mask.Output()],
        )

    @classmethod
    def execute(cls, mask: Tensor, x: int, y: int, width: int, height: int) -> io.NodeOutput:
        return io.NodeOutput(flat(mask)[:, y : y + height, x : x + width])


def _yes(mask: Tensor) -> Tensor:
    return mask.round().bool()


COMBINATIONS = {
    "multiply": torch.mul,
    "add": torch.add,
    "subtract": torch.sub,
    "and": lambda one, other: (_yes(one) & _yes(other)).to(one.dtype),
    "or": lambda one, other: (_yes(one) | _yes(other)).to(one.dtype),
    "xor": lambda one, other: (_yes(one) ^ _yes(other)).to(one.dtype),
}


class MaskComposite(io.ComfyNode):
    """Combine two masks, the second one placed at x, y."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MaskComposite",
            display_name="Combine Masks",
            category="image/mask",
            inputs=[
                io.Mask.Input("destination"),
                io.Mask.Input("source"),
                pixels("x"),
                pixels("y"),
                io.Combo.Input("operation", options=list(COMBINATIONS)),
            ],
            outputs=[io.Mask.Output()],
        )

    @classmethod
    def execute(cls, destination: Tensor, source: Tensor, x: int, y: int, operation: str) -> io.NodeOutput:
        out = flat(destination).clone()
        part = out[:, y : y + source.shape[-2], x : x + source.shape[-1]]
        top = flat(source).to(out.device)[:, : part.shape[1], : part.shape[2]]
        part.copy_(COMBINATIONS[operation](part, top))
        return io.NodeOutput(out.clamp_(0, 1))


class ThresholdMask(io.ComfyNode):
    """1 where a mask is above a value, 0 elsewhere."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ThresholdMask",
            display_name="Threshold Mask",
            category="image/mask",
            inputs=[
                io.Mask.Input("mask"),
                io.Float.Input("value", default=0.5, min=0.0, max=1.0, step=0.01),
            ],
            outputs=[io.Mask.Output()],
        )

    @classmethod
    def execute(cls, mask: Tensor, value: float) -> io.NodeOutput:
        return io.NodeOutput((mask > value).to(torch.float32))


class MaskPreview(io.ComfyNode):
    """Show a mask in the editor."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MaskPreview",
            display_name="Preview Mask",
            category="image/mask",
            inputs=[io.Mask.Input("mask")],
            outputs=[io.Mask.Output(display_name="mask")],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, mask: Tensor) -> io.NodeOutput:
        grey = flat(mask)[..., None].expand(-1, -1, -1, 3)
        return io.NodeOutput(mask, ui=PreviewImage().save_images(grey)["ui"])


NODES = [
    CropMask,
    ImageColorToMask,
    ImageToMask,
    InvertMask,
    MaskComposite,
    MaskPreview,
    MaskToImage,
    SolidMask,
    ThresholdMask,
]
