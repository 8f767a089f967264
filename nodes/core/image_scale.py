"""Scaling by a rule: total pixels, longest side, fit and pad, and the one node that does it all for masks too."""

from __future__ import annotations

import math
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from .limits import MAX_RESOLUTION, SCALE_METHODS
from .resampling import fit_longer_side, resize

__all__ = ["NODES"]


class ImageScaleToTotalPixels(io.ComfyNode):
    """Scale to about so many megapixels (of 1024 * 1024)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageScaleToTotalPixels",
            display_name="Scale Image to Total Pixels",
            category="image/upscaling",
            inputs=[
                io.Image.Input("image"),
                io.Combo.Input("upscale_method", options=SCALE_METHODS),
                io.Float.Input("megapixels", default=1.0, min=0.01, max=16.0, step=0.01),
                io.Int.Input("resolution_steps", default=1, min=1, max=256, advanced=True),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image: Tensor, upscale_method: str, megapixels: float, resolution_steps: int = 1) -> io.NodeOutput:
        height, width = image.shape[1:3]
        factor = math.sqrt(megapixels * 1024 * 1024 / (width * height))
        size = [round(side * factor / resolution_steps) * resolution_steps for side in (width, height)]
        return io.NodeOutput(resize(image, size[0], size[1], upscale_method))


class ImageScaleToMaxDimension(io.ComfyNode):
    """Scale so that the longer side has a size."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        # "bilinear" twice, as ComfyUI has it: saved workflows hold the value, editors the position
        methods = ["area", "lanczos", "bilinear", "nearest-exact", "bilinear", "bicubic"]
        return io.Schema(
            node_id="ImageScaleToMaxDimension",
            display_name="Scale Image to Max Dimension",
            category="image/upscaling",
            inputs=[
                io.Image.Input("image"),
                io.Combo.Input("upscale_method", options=methods),
                io.Int.Input("largest_size", default=512, min=0, max=MAX_RESOLUTION, step=1),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image: Tensor, upscale_method: str, largest_size: int) -> io.NodeOutput:
        width, height = fit_longer_side(image.shape[2], image.shape[1], largest_size)
        return io.NodeOutput(resize(image, width, height, upscale_method))


class ResizeAndPadImage(io.ComfyNode):
    """Scale to fit into a size and fill the rest."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        methods = ["area", "bicubic", "nearest-exact", "bilinear", "lanczos"]
        return io.Schema(
            node_id="ResizeAndPadImage",
            display_name="Resize And Pad Image",
            category="image/transform",
            inputs=[
                io.Image.Input("image"),
                io.Int.Input("target_width", default=512, min=1, max=MAX_RESOLUTION, step=1),
                io.Int.Input("target_height", default=512, min=1, max=MAX_RESOLUTION, step=1),
                io.Combo.Input("padding_color", options=["white", "black"], advanced=True),
                io.Combo.Input("interpolation", options=methods, advanced=True),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(
        cls, image: Tensor, target_width: int, target_height: int, padding_color: str, interpolation: str
    ) -> io.NodeOutput:
        batch, old_height, old_width, channels = image.shape
        factor = min(target_width / old_width, target_height / old_height)
        width, height = int(old_width * factor), int(old_height * factor)
        fill = 0.0 if padding_color == "black" else 1.0
        out = image.new_full((batch, target_height, target_width, channels), fill)
        x, y = (target_width - width) // 2, (target_height - height) // 2
        out[:, y : y + height, x : x + width] = resize(image, width, height, interpolation)
        return io.NodeOutput(out)


Size = tuple[int, int]
CROP = "crop"


def _by_multiplier(size: Size, chosen: dict[str, Any]) -> Size:
    return round(size[0] * chosen["multiplier"]), round(size[1] * chosen["multiplier"])


def _to_dimensions(size: Size, chosen: dict[str, Any]) -> Size:
    """A missing or zero side follows from the other one; both zero = as it is."""
    width, height = chosen.get("width", 0), chosen.get("height", 0)
    if not width and not height:
        return size
    return (
        width or max(1, round(size[0] * height / size[1])),
        height or max(1, round(size[1] * width / size[0])),
    )


def _to_longer(size: Size, chosen: dict[str, Any]) -> Size:
    return fit_longer_side(*size, chosen["longer_size"])


def _to_shorter(size: Size, chosen: dict[str, Any]) -> Size:
    shorter, (width, height) = chosen["shorter_size"], size
    if height < width:
        return round((width / height) * shorter), shorter
    if width < height:
        return shorter, round((height / width) * shorter)
    return shorter, shorter


def _to_pixels(size: Size, chosen: dict[str, Any]) -> Size:
    factor = math.sqrt(int(chosen["megapixels"] * 1024 * 1024) / (size[0] * size[1]))
    return round(size[0] * factor), round(size[1] * factor)


def _to_match(size: Size, chosen: dict[str, Any]) -> Size:
    match = chosen["match"]
    return match.shape[2], match.shape[1]


RULES = {
    "scale dimensions": _to_dimensions,
    "scale by multiplier": _by_multiplier,
    "scale longer dimension": _to_longer,
    "scale shorter dimension": _to_shorter,
    "scale width": _to_dimensions,
    "scale height": _to_dimensions,
    "scale total pixels": _to_pixels,
    "match size": _to_match,
}


def _cover_multiple(picture: Tensor, multiple: int, method: str) -> Tensor:
    """Scale to cover the largest size within that is divisible by `multiple`, and cut the rest off evenly."""
    old_height, old_width = picture.shape[1:3]
    width, height = old_width // multiple * multiple, old_height // multiple * multiple
    if not width or not height or (width, height) == (old_width, old_height):
        return picture
    across, down = width / old_width, height / old_height
    if across >= down:
        scaled_width, scaled_height = width, max(height, math.ceil(old_height * across))
    else:
        scaled_width, scaled_height = max(width, math.ceil(old_width * down)), height
    scaled = resize(picture, scaled_width, scaled_height, method)
    x, y = (scaled_width - width) // 2, (scaled_height - height) // 2
    return scaled[:, y : y + height, x : x + width]


def _resize_types() -> list[io.DynamicCombo.Option]:
    def side(name: str, default: int = 512, low: int = 0) -> io.Int.Input:
        return io.Int.Input(name, default=default, min=low, max=MAX_RESOLUTION, step=1)

    crop = io.Combo.Input(CROP, options=["disabled", "center"], default="center")
    inputs = {
        "scale dimensions": [side("width"), side("height"), crop],
        "scale by multiplier": [io.Float.Input("multiplier", default=1.0, min=0.01, max=8.0, step=0.01)],
        "scale longer dimension": [side("longer_size")],
        "scale shorter dimension": [side("shorter_size")],
        "scale width": [side("width")],
        "scale height": [side("height")],
        "scale total pixels": [io.Float.Input("megapixels", default=1.0, min=0.01, max=16.0, step=0.01)],
        "match size": [io.MultiType.Input("match", [io.Image, io.Mask]), crop],
        "scale to multiple": [side("multiple", 8, 1)],
    }
    return [io.DynamicCombo.Option(name, fields) for name, fields in inputs.items()]


class ResizeImageMaskNode(io.ComfyNode):
    """Resize a picture or a mask by a rule."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        kind = io.MatchType.Template("input_type", [io.Image, io.Mask])
        return io.Schema(
            node_id="ResizeImageMaskNode",
            display_name="Resize Image/Mask",
            category="image/transform",
            inputs=[
                io.MatchType.Input("input", template=kind),
                io.DynamicCombo.Input("resize_type", options=_resize_types()),
                io.Combo.Input("scale_method", options=SCALE_METHODS, default="area"),
            ],
            outputs=[io.MatchType.Output(template=kind, display_name="resized")],
        )

    @classmethod
    def execute(cls, input: Tensor, scale_method: str, resize_type: dict[str, Any]) -> io.NodeOutput:
        picture = input if input.dim() == 4 else input[..., None]
        rule = resize_type["resize_type"]
        if rule == "scale to multiple":
            out = _cover_multiple(picture, resize_type["multiple"], scale_method)
        elif rule == "scale dimensions" and not resize_type["width"] and not resize_type["height"]:
            out = picture
        else:
            width, height = RULES[rule]((picture.shape[2], picture.shape[1]), resize_type)
            out = resize(picture, width, height, scale_method, resize_type.get(CROP, "disabled"))
        return io.NodeOutput(out if input.dim() == 4 else out[..., 0])


ASPECT_RATIOS = {
    "1:1 (Square)": (1, 1),
    "2:3 (Portrait Photo)": (2, 3),
    "3:2 (Photo)": (3, 2),
    "3:4 (Portrait Standard)": (3, 4),
    "4:3 (Standard)": (4, 3),
    "9:16 (Portrait Widescreen)": (9, 16),
    "16:9 (Widescreen)": (16, 9),
    "21:9 (Ultrawide)": (21, 9),
}


class ResolutionSelector(io.ComfyNode):
    """Width and height from an aspect ratio and a number of megapixels."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ResolutionSelector",
            display_name="Resolution Selector",
            category="utilities",
            inputs=[
                io.Combo.Input("aspect_ratio", options=list(ASPECT_RATIOS), default="1:1 (Square)"),
                io.Float.Input("megapixels", default=1.0, min=0.1, max=16.0, step=0.1),
                io.Int.Input("multiple", default=8, min=8, max=128, step=4, advanced=True),
            ],
            outputs=[io.Int.Output("width"), io.Int.Output("height")],
        )

    @classmethod
    def execute(cls, aspect_ratio: str, megapixels: float, multiple: int = 8) -> io.NodeOutput:
        ratio = ASPECT_RATIOS[aspect_ratio]
        factor = math.sqrt(megapixels * 1024 * 1024 / (ratio[0] * ratio[1]))
        return io.NodeOutput(*(round(part * factor / multiple) * multiple for part in ratio))


NODES = [
    ImageScaleToMaxDimension,
    ImageScaleToTotalPixels,
    ResizeAndPadImage,
    ResizeImageMaskNode,
    ResolutionSelector,
]
