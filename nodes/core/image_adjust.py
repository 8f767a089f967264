"""Brightness, contrast, normalisation."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

__all__ = ["NODES"]


def _schema(node_id: str, name: str, category: str, fields: list[io.Float.Input]) -> io.Schema:
    return io.Schema(
        node_id=node_id,
        display_name=name,
        category=category,
        is_experimental=True,
        inputs=[io.Image.Input("images"), *fields],
        outputs=[io.Image.Output(display_name="images")],
    )


def _factor() -> io.Float.Input:
    return io.Float.Input("factor", default=1.0, min=0.0, max=2.0)


class AdjustBrightness(io.ComfyNode):
    """Each value times a factor."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _schema("AdjustBrightness", "Adjust Brightness", "image/adjustments", [_factor()])

    @classmethod
    def execute(cls, images: Tensor, factor: float) -> io.NodeOutput:
        return io.NodeOutput(images.mul(factor).clamp_(0, 1))


class AdjustContrast(io.ComfyNode):
    """Each value's distance to middle grey times a factor."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _schema("AdjustContrast", "Adjust Contrast", "image/adjustments", [_factor()])

    @classmethod
    def execute(cls, images: Tensor, factor: float) -> io.NodeOutput:
        return io.NodeOutput(images.sub(0.5).mul_(factor).add_(0.5).clamp_(0, 1))


class NormalizeImages(io.ComfyNode):
    """Each value minus the mean, by the standard deviation."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        fields = [
            io.Float.Input("mean", default=0.5, min=0.0, max=1.0, advanced=True),
            io.Float.Input("std", default=0.5, min=0.001, max=1.0, advanced=True),
        ]
        return _schema("NormalizeImages", "Normalize Image Colors", "image/color", fields)

    @classmethod
    def execute(cls, images: Tensor, mean: float, std: float) -> io.NodeOutput:
        return io.NodeOutput(images.sub(mean).div_(std))


NODES = [AdjustBrightness, AdjustContrast, NormalizeImages]
