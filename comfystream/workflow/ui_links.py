"""What feeds an input in the editor's graph, through reroutes, bypassed nodes, primitives and subgraph borders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from comfystream.workflow.model import Link
from comfystream.workflow.types import matches
from comfystream.workflow.ui_graph import BYPASS, INPUT_NODE, MUTE, OUTPUT_NODE, UiDocument, UiNode, UiSlot
from comfystream.workflow.ui_scope import Scope, inner_scope

__all__ = ["REROUTES", "Value", "VIRTUAL", "feeder"]

PRIMITIVE = "PrimitiveNode"
REROUTES = frozenset(("Reroute", "Reroute (rgthree)"))
_SETTERS = frozenset(("SetNode", "easy setNode"))
_GETTERS = frozenset(("GetNode", "easy getNode"))
VIRTUAL = REROUTES | _SETTERS | _GETTERS | {PRIMITIVE, "Note", "MarkdownNote"}
_MAX_STEPS = 1000  # a graph that needs more runs in a circle of reroutes or bypassed nodes


@dataclass(frozen=True, slots=True)
class Value:
    """A constant in place of a link: of a PrimitiveNode or a promoted widget."""

    value: Any


@dataclass(frozen=True, slots=True)
class _Output:
    """Output `slot` of node `node_id` in `scope`; next to be looked at."""

    scope: Scope
    node_id: str
    slot: int


@dataclass(frozen=True, slots=True)
class _Input:
    """An input of a node in `scope`; next to be looked at."""

    scope: Scope
    slot: UiSlot


_Place = _Output | _Input
_Result = Link | Value | None


def feeder(document: UiDocument, scope: Scope, slot: UiSlot) -> _Result:
    """What feeds the linked input `slot` of a node in `scope`: an output, a constant, or nothing (any more)."""
    place: _Place | _Result = _Input(scope, slot)
    for _ in range(_MAX_STEPS):
        if isinstance(place, _Input):
            place = _origin(place)
        elif isinstance(place, _Output):
            place = _through(document, place, slot.type)
        else:
            return place
    return None


def _origin(place: _Input) -> _Output | None:
    link = place.scope.graph.links.get(place.slot.link) if place.slot.link is not None else None
    return None if link is None else _Output(place.scope, link.origin, link.origin_slot)


def _through(document: UiDocument, place: _Output, wanted: Any) -> _Place | _Result:
    scope = place.scope
    if place.node_id == INPUT_NODE and scope.parent is not None:
        return _outside(scope, place.slot)
    node = scope.graph.nodes.get(place.node_id)
    if node is None or node.mode == MUTE:
        return None
    if node.mode == BYPASS:
        slot = _bypass_input(node, place.slot, wanted)
        return None if slot is None else _Input(scope, slot)
    definition = document.definitions.get(node.type)
    if definition is not None:
        return _inside(inner_scope(scope, node, definition), place.slot)
    if node.type in VIRTUAL:
        return _through_virtual(scope, node)
    return Link(f"{scope.prefix}{node.id}", place.slot)


def _outside(scope: Scope, index: int) -> _Place | _Result:
    """From a subgraph's input to what feeds the instance there."""
    assert scope.parent is not None
    assert scope.instance is not None
    names = scope.graph.inputs
    name = names[index] if 0 <= index < len(names) else None
    slot = next((slot for slot in scope.instance.inputs if slot.name == name), None)
    if slot is None and 0 <= index < len(names) == len(scope.instance.inputs):
        slot = scope.instance.inputs[index]  # renamed; instances may also lack inputs, so lengths must agree
    if slot is not None and slot.link is not None:
        return _Input(scope.parent, slot)
    for key in (name, slot.name if slot is not None else None):
        if key is not None and key in scope.input_values:
            return Value(scope.input_values[key])
    return None


def _inside(scope: Scope, index: int) -> _Output | None:
    """From an output of an instance to what feeds the subgraph's output."""
    for link in scope.graph.links.values():
        if link.target == OUTPUT_NODE and link.target_slot == index:
            return _Output(scope, link.origin, link.origin_slot)
    return None


def _through_virtual(scope: Scope, node: UiNode) -> _Place | _Result:
    if node.type == PRIMITIVE:
        return None if node.first_widget is None else Value(node.first_widget)
    if node.type in _GETTERS:
        setter = _setter(scope, node.first_widget)
        if setter is None:
            return None
        scope, node = setter
    return _Input(scope, node.inputs[0]) if node.inputs else None


def _setter(scope: Scope | None, name: Any) -> tuple[Scope, UiNode] | None:
    """The SetNode of that name in this graph or an enclosing one."""
    while scope is not None:
        for node in scope.graph.nodes.values():
            if node.type in _SETTERS and node.first_widget == name and node.mode not in (MUTE, BYPASS):
                return scope, node
        scope = scope.parent
    return None


def _bypass_input(node: UiNode, index: int, wanted: Any) -> UiSlot | None:
    """The input whose value a bypassed node hands on at output `index`."""
    slots = node.inputs
    same = slots[index] if 0 <= index < len(slots) else None
    if wanted in ("*", "", None, 0):
        return same or (slots[0] if slots else None)
    given = node.outputs[index].type if 0 <= index < len(node.outputs) else wanted
    if same is not None and matches(same.type, given) and matches(same.type, wanted):
        return same
    equal = (slot for slot in slots if slot.type == wanted)
    compatible = (slot for slot in slots if matches(slot.type, wanted))
    return next(equal, None) or next(compatible, None)
