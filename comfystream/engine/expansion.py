"""The graphs that nodes put in their own place: their links, their constants, and the ids that they make."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from comfystream.engine.step import Step
from comfystream.engine.values import Items, as_items
from comfystream.workflow.model import Link, Literal

__all__ = ["as_input", "follow", "is_link", "set_graph_prefix"]


def is_link(value: Any) -> bool:
    """Whether a value of an expansion is a link: a list of a string and a number."""
    return (
        isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int | float)
    )


def as_input(value: Any) -> Any:
    """An input of an expansion's node, in the model's terms."""
    if is_link(value):
        return Link(value[0], int(value[1]))
    if isinstance(value, dict) and set(value) == {"__value__"}:
        return Literal(value["__value__"])
    return value


def follow(value: Any, values: Mapping[str, tuple[Any, ...]]) -> Any:
    """What a value of an expansion's result stands for: all items of the slot it links to, or itself."""
    if not is_link(value):
        return value
    outputs = values[value[0]]
    slot = int(value[1])
    return Items(as_items(outputs[slot] if slot < len(outputs) else None))


def set_graph_prefix(step: Step, call_index: int) -> None:
    """Tell `GraphBuilder` whose expansion it builds, so that the ids it makes are unique."""
    builder = _graph_builder()
    if builder is not None:
        builder.set_default_prefix(step.id, call_index, 0)


def _graph_builder() -> Any:
    module = sys.modules.get("comfy_execution.graph_utils")
    return getattr(module, "GraphBuilder", None)
