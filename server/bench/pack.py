"""Node classes that the benches run, loaded as a custom pack: by our engine, and by a ComfyUI to compare with."""

from __future__ import annotations

import time
from typing import Any

import torch
from comfy_api.latest import io

__all__ = ["NODE_CLASS_MAPPINGS"]


class BenchPass:
    """Gives what it gets."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "bench"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        return {"required": {"image": ("IMAGE",)}}

    def run(self, image: Any) -> tuple[Any]:
        return (image,)


class BenchPassV3(io.ComfyNode):  # type: ignore[misc, unused-ignore]
    """Gives what it gets."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="BenchPassV3", category="bench", inputs=[io.Image.Input("image")], outputs=[io.Image.Output()]
        )

    @classmethod
    def execute(cls, image: Any) -> Any:
        return io.NodeOutput(image)


class BenchSource(BenchPass):
    """A value that changes with its widget: for ComfyUI, which has no live input."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        return {"required": {"number": ("INT", {"default": 0, "min": 0, "max": 1 << 31})}}

    def run(self, number: int) -> tuple[Any]:
        return (number,)


class BenchPicture(BenchSource):
    """The same as a real picture, for nodes that look at it."""

    def run(self, number: int) -> tuple[Any]:
        return (torch.full((1, 64, 64, 3), number % 256 / 255),)


class BenchSink(BenchPass):
    """An output node that does nothing."""

    RETURN_TYPES: tuple[str, ...] = ()  # type: ignore[assignment]
    OUTPUT_NODE = True

    def run(self, image: Any) -> tuple[Any]:
        return ()  # type: ignore[return-value]


class BenchWait(BenchPass):
    """Gives what it gets, after a while: a model that keeps a GPU busy and leaves the processor alone."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        milliseconds = ("FLOAT", {"default": 100.0, "min": 0.0, "max": 1e5})
        return {"required": {"image": ("IMAGE",), "milliseconds": milliseconds}}

    def run(self, image: Any, milliseconds: float) -> tuple[Any]:  # type: ignore[override]
        time.sleep(milliseconds / 1000)
        return (image,)


CLASSES = (BenchPass, BenchPassV3, BenchSource, BenchPicture, BenchSink, BenchWait)
NODE_CLASS_MAPPINGS = {cls.__name__: cls for cls in CLASSES}
