"""Crop, flip, rotate, stitch."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor
from torch.nn.functional import pad

from .limits import MAX_RESOLUTION
from .resampling import resize

__all__ = ["NODES"]


def _side(name: str, default: int, low: int) -> io.Int.Input:
    return io.Int.Input(name, default=default, min=low, max=MAX_RESOLUTION, step=1)


def crop(image: Tensor, x: int, y: int, width: int, height: int) -> Tensor:
    """A rectangle, as much of it as is there; at least the last column and row."""
    x, y = min(x, image.shape[2] - 1), min(y, image.shape[1] - 1)
    return image[:, y : y + height, x : x + width]


class ImageCrop(io.ComfyNode):
    """A rectangle of a picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageCrop",
            display_name="Crop Image (DEPRECATED)",
            category="image/transform",
            essentials_category="Image Tools",
            is_deprecated=True,
            inputs=[
                io.Image.Input("image"),
                _side("width", 512, 1),
                _side("height", 512, 1),
                _side("x", 0, 0),
                _side("y", 0, 0),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image: Tensor, width: int, height: int, x: int, y: int) -> io.NodeOutput:
        return io.NodeOutput(crop(image, x, y, width, height))


class ImageCropV2(io.ComfyNode):
    """A rectangle of a picture, given as a bounding box."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageCropV2",
            display_name="Crop Image",
            category="image/transform",
            essentials_category="Image Tools",
            has_intermediate_output=True,
            inputs=[io.Image.Input("image"), io.BoundingBox.Input("crop_region", component="ImageCrop")],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image: Tensor, crop_region: dict[str, int]) -> io.NodeOutput:
        box = {"x": 0, "y": 0, "width": 512, "height": 512} | crop_region
        return io.NodeOutput(crop(image, box["x"], box["y"], box["width"], box["height"]))


class PrimitiveBoundingBox(io.ComfyNode):
    """A rectangle."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        sizes = (("x", 0, 0), ("y", 0, 0), ("width", 512, 1), ("height", 512, 1))
        return io.Schema(
            node_id="PrimitiveBoundingBox",
            display_name="Bounding Box",
            category="utilities/primitive",
            inputs=[io.Int.Input(name, default=default, min=low, max=MAX_RESOLUTION) for name, default, low in sizes],
            outputs=[io.BoundingBox.Output()],
        )

    @classmethod
    def execute(cls, x: int, y: int, width: int, height: int) -> io.NodeOutput:
        return io.NodeOutput({"x": x, "y": y, "width": width, "height": height})


class ImageFlip(io.ComfyNode):
    """Mirror a picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageFlip",
            display_name="Flip Image",
            category="image/transform",
            inputs=[
                io.Image.Input("image"),
                io.Combo.Input("flip_method", options=["x-axis: vertically", "y-axis: horizontally"]),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image: Tensor, flip_method: str) -> io.NodeOutput:
        return io.NodeOutput(image.flip(1 if flip_method.startswith("x") else 2))


class ImageRotate(io.ComfyNode):
    """Turn a picture clockwise."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageRotate",
            display_name="Rotate Image",
            category="image/transform",
            essentials_category="Image Tools",
            inputs=[
                io.Image.Input("image"),
                io.Combo.Input("rotation", options=["none", "90 degrees", "180 degrees", "270 degrees"]),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image: Tensor, rotation: str) -> io.NodeOutput:
        if rotation == "none":
            return io.NodeOutput(image)
        return io.NodeOutput(torch.rot90(image, k=int(rotation.split()[0]) // 90, dims=[2, 1]))


STITCH_COLORS: dict[str, tuple[float, float, float]] = {
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
}


def _fill_batch(image: Tensor, count: int) -> Tensor:
    """Repeat the last picture until there are `count`."""
    return (
        torch.cat([image, image[-1:].expand(count - image.shape[0], -1, -1, -1)]) if image.shape[0] < count else image
    )


def _match_side(image: Tensor, other: Tensor, along_width: bool) -> Tensor:
    """Scale `image` so that the side that touches is as long as that of `other`."""
    height, width = other.shape[1:3]
    aspect = image.shape[2] / image.shape[1]
    size = (int(height * aspect), height) if along_width else (width, int(width / aspect))
    return resize(image, *size, "lanczos")


def _center_on(image: Tensor, length: int, along_width: bool, value: float) -> Tensor:
    """Pad the side that touches to `length`."""
    missing = length - image.shape[1 if along_width else 2]
    before, after = missing // 2, missing - missing // 2
    return pad(image, (0, 0, 0, 0, before, after) if along_width else (0, 0, before, after), value=value)


def _gap(first: Tensor, width: int, along_width: bool, color: tuple[float, float, float]) -> Tensor:
    """Spacing beside `first`; what is not red, green or blue is opaque."""
    channels = first.shape[-1]
    pixel = torch.tensor([*color, 1.0][:channels], dtype=torch.float32, device=first.device)
    batch, height, length = first.shape[:3]
    return pixel.expand(batch, *((height, width) if along_width else (width, length)), channels)


class ImageStitch(io.ComfyNode):
    """One picture beside the other."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageStitch",
            display_name="Stitch Images",
            category="image/transform",
            inputs=[
                io.Image.Input("image1"),
                io.Combo.Input("direction", options=["right", "down", "left", "up"], default="right"),
                io.Boolean.Input("match_image_size", default=True),
                io.Int.Input("spacing_width", default=0, min=0, max=1024, step=2, advanced=True),
                io.Combo.Input("spacing_color", options=list(STITCH_COLORS), default="white", advanced=True),
                io.Image.Input("image2", optional=True),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(
        cls,
        image1: Tensor,
        direction: str,
        match_image_size: bool,
        spacing_width: int,
        spacing_color: str,
        image2: Tensor | None = None,
    ) -> io.NodeOutput:
        if image2 is None:
            return io.NodeOutput(image1)
        along_width = direction in ("left", "right")
        color = STITCH_COLORS[spacing_color]
        count = max(image1.shape[0], image2.shape[0])
        pair = [_fill_batch(image1, count), _fill_batch(image2.to(image1.device), count)]
        if match_image_size:
            pair[1] = _match_side(pair[1], pair[0], along_width)
        else:
            length = max(image.shape[1 if along_width else 2] for image in pair)
            value = 1.0 if spacing_color == "white" else 0.0
            pair = [_center_on(image, length, along_width, value) for image in pair]
        channels = max(image.shape[-1] for image in pair)
        parts: list[Any] = [pad(image, (0, channels - image.shape[-1]), value=1.0) for image in pair]
        if direction in ("left", "up"):
            parts.reverse()
        if spacing_width > 0:
            parts.insert(1, _gap(parts[0], spacing_width + spacing_width % 2, along_width, color))
        return io.NodeOutput(torch.cat(parts, dim=2 if along_width else 1))


NODES = [ImageCrop, ImageCropV2, ImageFlip, ImageRotate, ImageStitch, PrimitiveBoundingBox]
