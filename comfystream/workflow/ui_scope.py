"""Where in the nesting of subgraph instances a node stands, and which values the instances give to their members."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from comfystream.workflow.ui_graph import UiGraph, UiNode

__all__ = ["Scope", "inner_scope"]


@dataclass(frozen=True, slots=True)
class Scope:
    """One instance of a graph.

    Attributes:
        graph: the root graph or a subgraph definition.
        prefix: what the ids of its nodes start with ("" or "12:").
        parent, instance: the scope and the node that instantiate it; None for the root.
        input_values: instance input name to the value of its promoted widget.
        overrides: (member id, widget name) to the value that the instance sets there.
    """

    graph: UiGraph
    prefix: str = ""
    parent: Scope | None = None
    instance: UiNode | None = None
    input_values: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[tuple[str, str], Any] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        """How many instances enclose it."""
        return 0 if self.parent is None else self.parent.depth + 1


def inner_scope(scope: Scope, node: UiNode, definition: UiGraph) -> Scope:
    """The scope of the subgraph that `node` instantiates in `scope`."""
    promoted = _promoted(node)
    input_values: dict[str, Any] = {}
    overrides: dict[tuple[str, str], Any] = {}
    for (member, name), value in zip(promoted, _values(node, promoted), strict=True):
        value = scope.overrides.get((node.id, name), value)
        if value is None:
            continue
        if member == "-1":
            input_values[name] = value
        else:
            overrides[member, name] = value
    return Scope(definition, f"{scope.prefix}{node.id}:", scope, node, input_values, overrides)


def _promoted(node: UiNode) -> list[tuple[str, str]]:
    """Member id ("-1": the instance's own input) and widget name of each promoted widget."""
    proxies = node.properties.get("proxyWidgets")
    if isinstance(proxies, list):
        return [(str(proxy[0]), str(proxy[1])) for proxy in proxies if isinstance(proxy, list) and len(proxy) > 1]
    return [("-1", slot.name) for slot in node.inputs if slot.widget is not None]


def _values(node: UiNode, promoted: list[tuple[str, str]]) -> list[Any]:
    """Parallel to `promoted`; None where the member keeps its own value."""
    if isinstance(node.widgets, Mapping):
        return [node.widgets.get(name) for _, name in promoted]
    values = node.widgets or []
    has_proxies = isinstance(node.properties.get("proxyWidgets"), list)
    if not has_proxies and len(values) != len(promoted):
        values = []  # the lists are not parallel, so the members' own values are the safe ones
    return [*values, *([None] * len(promoted))][: len(promoted)]
