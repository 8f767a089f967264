"""Static checks of a workflow against a catalog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Problem"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong (or odd) with a workflow, in ComfyUI's words and in plain ones.

    Attributes:
        type: ComfyUI's error type ("required_input_missing", "value_not_in_list", ...) or one of ours.
        message: ComfyUI's message for that type.
        details: what exactly ("images", "radius: 99 > 31").
        hint: what to do about it, in plain words.
        node_id, class_type, input_name: where; None for the whole workflow.
        is_error: False for a warning; a workflow with warnings runs.
        extra_info: ComfyUI's `extra_info` for that type.
    """

    type: str
    message: str
    details: str = ""
    hint: str = ""
    node_id: str | None = None
    class_type: str | None = None
    input_name: str | None = None
    is_error: bool = True
    extra_info: Mapping[str, Any] = field(default_factory=dict)
