"""Live text out of a workflow. Our engine binds this node to the stream and never calls it."""

from __future__ import annotations

from typing import Any

from comfystream import bus

__all__ = ["SaveTextTensor"]


class SaveTextTensor:
    """The text that clients get, the empty one included."""

    RETURN_TYPES = ()
    FUNCTION = "execute"
    OUTPUT_NODE = True
    CATEGORY = "text_utils"
    DESCRIPTION = "Live text output. Outside a stream: shows the text in the editor."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {"data": ("STRING",)},
            "optional": {"remove_linebreaks": ("BOOLEAN", {"default": True})},
        }

    @classmethod
    def IS_CHANGED(cls, **inputs: Any) -> float:
        return float("nan")

    def execute(self, data: str, remove_linebreaks: bool = True) -> dict[str, Any]:
        text = data.replace("\n", "").replace("\r", "") if remove_linebreaks else data
        bus.text_outputs.put(text)
        bus.outputs.put("text", text)
        return {"ui": {"text": (text,)}}
