"""Any value as text (V1)."""

from __future__ import annotations

import json
from typing import Any

import torch

__all__ = ["NODES"]

EDGE_ITEMS, USUAL_EDGE_ITEMS = 6, 3  # how much of a long tensor is printed


def describe(value: Any) -> str:
    """Text of a value: JSON where it can be, what Python prints elsewhere."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool | int | float):
        return str(value)
    try:
        return json.dumps(value, indent=4, ensure_ascii=False)
    except (TypeError, ValueError):
        pass
    torch.set_printoptions(edgeitems=EDGE_ITEMS)
    try:
        return str(value)
    finally:
        torch.set_printoptions(edgeitems=USUAL_EDGE_ITEMS)


class PreviewAny:
    """Show any value as text."""

    RETURN_TYPES = ("STRING",)
    FUNCTION = "main"
    OUTPUT_NODE = True
    CATEGORY = "utilities"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"source": ("*", {})}}

    def main(self, source: Any = None) -> dict[str, Any]:
        text = describe(source)
        return {"ui": {"text": (text,)}, "result": (text,)}


NODES: dict[str, tuple[type, str]] = {"PreviewAny": (PreviewAny, "Preview as Text")}
