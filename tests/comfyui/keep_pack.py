"""A node that hands the values of a graph to the test, loaded by ComfyUI's executor and by ours."""

from __future__ import annotations

from typing import Any

KEPT: dict[str, list[Any]] = {}


class TestKeep:
    RETURN_TYPES = ()
    FUNCTION = "keep"
    CATEGORY = "test"
    OUTPUT_NODE = True
    INPUT_IS_LIST = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": ("*",)}, "hidden": {"id": "UNIQUE_ID"}}

    @classmethod
    def VALIDATE_INPUTS(cls, input_types: dict[str, str]) -> bool:
        return True

    def keep(self, value: list[Any], id: list[str]) -> tuple[()]:
        KEPT[id[0]] = value
        return ()


NODE_CLASS_MAPPINGS = {"TestKeep": TestKeep}
