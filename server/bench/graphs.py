"""The workflows that the benches run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comfystream.workflow.api_format import parse_api
from comfystream.workflow.model import Workflow

__all__ = ["BUILT_IN", "PACK", "chain", "comfyui_graph", "live"]

PACK = Path(__file__).with_name("pack.py")
# Nodes of ComfyUI itself, as both executors run them.
BUILT_IN: tuple[tuple[str, dict[str, Any]], ...] = (
    ("ImageInvert", {}),
    ("ImageScale", {"upscale_method": "bilinear", "width": 64, "height": 64, "crop": "disabled"}),
    ("ImageBlur", {"blur_radius": 1, "sigma": 1.0}),
    ("ImageQuantize", {"colors": 16, "dither": "none"}),
    ("ImageInvert", {}),
)


def live(*nodes: tuple[str, dict[str, Any]]) -> Workflow:
    """LoadTensor, then nodes with one IMAGE input `image` each in a row, then SaveTensor."""
    document: dict[str, Any] = {"in": {"class_type": "LoadTensor", "inputs": {}}}
    last = "in"
    for i, (class_type, inputs) in enumerate(nodes, 1):
        document[str(i)] = {"class_type": class_type, "inputs": {"image": [last, 0], **inputs}}
        last = str(i)
    document["out"] = {"class_type": "SaveTensor", "inputs": {"images": [last, 0]}}
    return parse_api(document, source="bench")


def chain(class_type: str, length: int) -> list[tuple[str, dict[str, Any]]]:
    """`length` nodes of one class."""
    return [(class_type, {})] * length


def comfyui_graph(source: str, *nodes: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """For ComfyUI: a source, `nodes` in a row, and a sink."""
    row = [(source, {}), *nodes, ("BenchSink", {})]
    return {
        str(i): {"class_type": name, "inputs": {"image": [str(i - 1), 0], **inputs} if i else {"number": 0}}
        for i, (name, inputs) in enumerate(row)
    }
