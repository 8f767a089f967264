"""The workflows that the benches run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comfystream.workflow.api_format import parse_api
from comfystream.workflow.model import Workflow

__all__ = ["PACK", "chain", "comfyui_chain", "live"]

PACK = Path(__file__).with_name("pack.py")


def live(*nodes: tuple[str, dict[str, Any]]) -> Workflow:
    """LoadTensor, then nodes with one IMAGE input `image` each in a row, then SaveTensor."""
    document: dict[str, Any] = {"in": {"class_type": "LoadTensor", "inputs": {}}}
    last = "in"
    for i, (class_type, inputs) in enumerate(nodes, 1):
        document[str(i)] = {"class_type": class_type, "inputs": {"image": [last, 0], **inputs}}
        last = str(i)
    document["out"] = {"class_type": "SaveTensor", "inputs": {"images": [last, 0]}}
    return parse_api(document, source="bench")


def chain(class_type: str, length: int) -> Workflow:
    """`length` nodes of one class between the live input and the live output."""
    return live(*[(class_type, {})] * length)


def comfyui_chain(class_type: str, length: int) -> dict[str, Any]:
    """For ComfyUI: a source, `length - 2` nodes of one class and a sink; `length` nodes in all."""
    names = ["BenchSource", *[class_type] * (length - 2), "BenchSink"]
    return {
        str(i): {"class_type": name, "inputs": {"image": [str(i - 1), 0]} if i else {"number": 0}}
        for i, name in enumerate(names)
    }
