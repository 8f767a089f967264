"""Live video in and out of a workflow. Our engine binds these nodes to the stream and never calls them.

What is here runs in the ComfyUI editor: the last live picture, or a test card, so that a workflow can be tried.
"""

from __future__ import annotations

import queue
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from comfystream import bus
from comfystream.exceptions import ComfyStreamInputTimeoutError

from .preview import preview_pictures

__all__ = ["LoadTensor", "SaveTensor"]

CARD_SIZE = 512
CARD_COLORS = (
    (0.75, 0.75, 0.75),
    (0.75, 0.75, 0),
    (0, 0.75, 0.75),
    (0, 0.75, 0),
    (0.75, 0, 0.75),
    (0.75, 0, 0),
    (0, 0, 0.75),
)
TIMEOUT = ("FLOAT", {"default": 1.0, "min": 0.1, "max": 30.0, "step": 0.1})

# What the editor shows on the nodes; the extension in nodes/web reads the key `comfystream_note`.
CARD_NOTE = "no stream: test card"
LAST_NOTE = "no stream: last live picture"
PREVIEW_NOTE = "preview; Go live shows the stream"


@lru_cache(maxsize=1)
def test_card() -> Tensor:
    """Colour bars above a grey ramp, float32 [1, 512, 512, 3]."""
    bars = torch.tensor(CARD_COLORS)[torch.arange(CARD_SIZE) * len(CARD_COLORS) // CARD_SIZE]
    ramp = torch.linspace(0, 1, CARD_SIZE)[:, None].expand(-1, 3)
    upper = CARD_SIZE * 3 // 4
    card = torch.cat([bars.expand(upper, -1, -1), ramp.expand(CARD_SIZE - upper, -1, -1)])
    return card[None].contiguous()


def to_image(pixels: Any) -> Tensor:
    """A picture as ComfyUI has it, from a tensor or an array.

    Args:
        pixels: [height, width, 3] or [1, height, width, 3]; bytes 0..255 or floats 0..1.

    Returns:
        float32 [1, height, width, 3].
    """
    picture = torch.as_tensor(pixels)
    if picture.dtype == torch.uint8:
        picture = picture.to(torch.float32).div_(255.0)
    return picture if picture.dim() == 4 else picture[None]


class LoadTensor:
    """The live picture."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "execute"
    CATEGORY = "ComfyStream/Loaders"
    DESCRIPTION = "Live video input. Outside a stream: the last live picture, or a test card."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"optional": {"timeout_seconds": TIMEOUT}}

    @classmethod
    def IS_CHANGED(cls, **inputs: Any) -> float:
        return float("nan")

    def execute(self, timeout_seconds: float = 1.0) -> tuple[Tensor] | dict[str, Any]:
        if bus.image_inputs.fed:
            try:
                frame = bus.image_inputs.get(timeout=timeout_seconds)
            except queue.Empty:
                raise ComfyStreamInputTimeoutError("video", timeout_seconds) from None
            frame.side_data.skipped = False
            return (to_image(frame.side_data.input),)
        last = bus.inputs.get("video")
        if last is None:
            return {"ui": {"comfystream_note": [CARD_NOTE]}, "result": (test_card().clone(),)}
        return {"ui": {"comfystream_note": [LAST_NOTE]}, "result": (to_image(last),)}


class SaveTensor:
    """The picture that viewers get."""

    RETURN_TYPES = ()
    FUNCTION = "execute"
    OUTPUT_NODE = True
    CATEGORY = "tensor_utils"
    DESCRIPTION = "Live video output. Outside a stream: shows the picture in the editor."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"images": ("IMAGE",)}}

    @classmethod
    def IS_CHANGED(cls, **inputs: Any) -> float:
        return float("nan")

    def execute(self, images: Tensor) -> dict[str, Any]:
        bus.image_outputs.put(images)
        bus.outputs.put("video", images)
        return {"ui": {"images": preview_pictures(images), "comfystream_note": [PREVIEW_NOTE]}}
