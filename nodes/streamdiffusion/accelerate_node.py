"""The node that has a model run by a backend, and builds its engines before a frame needs them."""

from __future__ import annotations

from typing import Any

from .acceleration import ACCELERATIONS, FEWEST_MOST_ROWS, accelerated
from .layout import Layout
from .model import StreamModel
from .ready import made_ready

__all__ = ["NODES", "StreamDiffusionAccelerate"]

TOKENS = 77


class StreamDiffusionAccelerate:
    """A model as a backend runs it."""

    CATEGORY, FUNCTION = "StreamDiffusion", "accelerate"
    RETURN_TYPES, RETURN_NAMES = ("STREAM_MODEL",), ("model",)
    DESCRIPTION = (
        "Runs a model by a backend; put it behind LoRAs and IP-Adapter. Engines are built here, beside the running "
        "stream, for the width and height that are given; with 0 when the first frame shows its size."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        def side(tooltip: str) -> tuple[str, dict[str, Any]]:
            return ("INT", {"default": 0, "min": 0, "max": 2048, "step": 8, "tooltip": tooltip})

        rows = {"default": 0, "min": 0, "max": 64, "tooltip": "steps x frames, and guidance; 0 is what is needed, or 4"}
        return {
            "required": {
                "model": ("STREAM_MODEL",),
                "acceleration": (["auto", *(name for name in ACCELERATIONS if name != "auto")],),
            },
            "optional": {
                "max_rows": ("INT", rows),
                "width": side("engines for this size are built at once; 0 waits for the first frame"),
                "height": side("likewise"),
                "smallest_side": side("engines for a range of sizes, multiples of 64; 0 is one size, which is faster"),
                "largest_side": side("likewise"),
                "precision": (["auto", "fp32", "fp16", "bf16"],),
                "controlnet": ("BOOLEAN", {"default": False, "tooltip": "ready for ControlNets that come in later"}),
            },
        }

    def accelerate(
        self,
        model: StreamModel,
        acceleration: str,
        max_rows: int = 0,
        width: int = 0,
        height: int = 0,
        smallest_side: int = 0,
        largest_side: int = 0,
        precision: str = "auto",
        controlnet: bool = False,
    ) -> tuple[StreamModel]:
        sizes = (smallest_side, largest_side) if smallest_side or largest_side else None
        made = accelerated(
            model, acceleration, max_rows=max_rows, sizes=sizes, precision=precision, takes_controls=controlnet
        )
        if made.acceleration is not None and made.acceleration.has_engines and width and height:
            rows = max_rows or FEWEST_MOST_ROWS
            made_ready(made, Layout((rows,), 1, (width, height), TOKENS, takes_residuals=controlnet))
        return (made,)


NODES: dict[str, tuple[type, str]] = {
    "StreamDiffusionAccelerate": (StreamDiffusionAccelerate, "Stream Model: Accelerate"),
}
