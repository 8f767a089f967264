"""How a slot's value stands in the engine: raw, or `Items` when it is a list of items that nodes are mapped over.

ComfyUI wraps every value in a list. Nearly all of those lists have one item, so here a value is wrapped only when a
node really made several (or none): `Items` is that wrapping, and everything else is one item.
"""

from __future__ import annotations

from typing import Any

__all__ = ["MISSING", "PASSTHROUGH", "Items", "as_items", "blocker_type", "node_output_type"]


class Items(list[Any]):
    """The items of a slot when there are not exactly one. Never handed to a node: nodes get items or plain lists."""

    __slots__ = ()


class _Mark:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


MISSING: Any = _Mark("MISSING")
"""A slot that holds nothing (yet)."""

PASSTHROUGH: Any = _Mark("PASSTHROUGH")
"""An output that is the live input itself: nothing was computed, nothing needs converting."""


def as_items(value: Any) -> list[Any]:
    """The items of a slot value."""
    return value if type(value) is Items else [value]


def blocker_type() -> type:
    """The `ExecutionBlocker` that node packs in this process use (ComfyUI's own, or our stand-in for it)."""
    from comfy_execution.graph_utils import ExecutionBlocker  # loaded by the catalog, never by us

    kind: type = ExecutionBlocker
    return kind


def node_output_type() -> type:
    """The class of V3 results that node packs in this process return."""
    from comfy_api.latest import io  # loaded by the catalog, never by us

    kind: type = io.NodeOutput
    return kind
