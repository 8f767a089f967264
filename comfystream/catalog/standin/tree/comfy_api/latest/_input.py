"""Names for the values that nodes take, as type annotations use them."""

from __future__ import annotations

from typing import Any

ImageInput = Any
AudioInput = dict[str, Any]
MaskInput = Any
LatentInput = dict[str, Any]
CurvePoint = tuple[float, float]


class VideoInput:
    """A clip; only the name is here, for annotations."""


__all__ = ["AudioInput", "CurvePoint", "ImageInput", "LatentInput", "MaskInput", "VideoInput"]
