"""The editor's graph JSON as data: nodes, links and subgraph definitions, with every field of the right kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from comfystream.errors import WorkflowError

__all__ = ["BYPASS", "INPUT_NODE", "MUTE", "OUTPUT_NODE", "UiDocument", "UiGraph", "UiLink", "UiNode", "UiSlot"]

MUTE = 2
BYPASS = 4
INPUT_NODE = "-10"
OUTPUT_NODE = "-20"


@dataclass(frozen=True, slots=True)
class UiSlot:
    """An input or output of a node. `widget` names the widget that an input stands for, if any."""

    name: str
    type: Any
    link: str | None = None
    widget: str | None = None


@dataclass(frozen=True, slots=True)
class UiLink:
    """From output `origin_slot` of `origin` to input `target_slot` of `target`."""

    id: str
    origin: str
    origin_slot: int
    target: str
    target_slot: int


@dataclass(frozen=True, slots=True)
class UiNode:
    """A node as the editor has it; `widgets` is `widgets_values`: a list, an object by name, or None."""

    id: str
    type: str
    mode: int
    inputs: tuple[UiSlot, ...]
    outputs: tuple[UiSlot, ...]
    widgets: list[Any] | Mapping[str, Any] | None
    properties: Mapping[str, Any]
    title: str

    @property
    def first_widget(self) -> Any:
        """The first widget value, or None."""
        return self.widgets[0] if isinstance(self.widgets, list) and self.widgets else None


@dataclass(frozen=True, slots=True)
class UiGraph:
    """The root graph or a subgraph definition; `inputs` are the names of a definition's inputs."""

    nodes: Mapping[str, UiNode]
    links: Mapping[str, UiLink]
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UiDocument:
    """A whole file: the root graph and all subgraph definitions by their id."""

    root: UiGraph
    definitions: Mapping[str, UiGraph]


def parse_document(document: Mapping[str, Any], source: str) -> UiDocument:
    """Read a file in UI format.

    Raises:
        WorkflowError: a part is of the wrong kind.
    """
    definitions: dict[str, UiGraph] = {}
    waiting = [document]
    while waiting:
        for definition in _subgraphs(waiting.pop()):
            definitions.setdefault(str(definition.get("id")), _graph(definition, source))
            waiting.append(definition)
    return UiDocument(_graph(document, source), definitions)


def _subgraphs(container: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return _mappings(_mapping(container.get("definitions")).get("subgraphs"))


def _graph(graph: Mapping[str, Any], source: str) -> UiGraph:
    nodes: dict[str, UiNode] = {}
    for index, entry in enumerate(_list(graph.get("nodes"))):
        node = _node(entry, index, source)
        nodes[node.id] = node
    links = (_link(entry, source) for entry in _list(graph.get("links")))
    names = tuple(str(slot.get("name")) for slot in _mappings(graph.get("inputs")))
    return UiGraph(nodes, {link.id: link for link in links}, names)


def _node(entry: Any, index: int, source: str) -> UiNode:
    if not isinstance(entry, Mapping):
        raise _bad(source, f"nodes[{index}] is not an object")
    node_id, node_type = entry.get("id"), entry.get("type")
    if not isinstance(node_id, str | int):
        raise _bad(source, f"nodes[{index}] has no id")
    if not isinstance(node_type, str) or not node_type:
        raise _bad(source, f"node {node_id} has no type")
    widgets = entry.get("widgets_values")
    mode, title = entry.get("mode"), entry.get("title")
    return UiNode(
        id=str(node_id),
        type=node_type,
        mode=mode if isinstance(mode, int) else 0,
        inputs=tuple(_slot(slot) for slot in _mappings(entry.get("inputs"))),
        outputs=tuple(_slot(slot) for slot in _mappings(entry.get("outputs"))),
        widgets=widgets if isinstance(widgets, list | Mapping) else None,
        properties=_mapping(entry.get("properties")),
        title=title if isinstance(title, str) else "",
    )


def _slot(slot: Mapping[str, Any]) -> UiSlot:
    link, widget = slot.get("link"), _mapping(slot.get("widget")).get("name")
    return UiSlot(
        str(slot.get("name", "")),
        slot.get("type", "*"),
        None if link is None else str(link),
        widget if isinstance(widget, str) else None,
    )


def _link(entry: Any, source: str) -> UiLink:
    """Root links are lists, those of subgraph definitions objects; either may occur in newer files."""
    if isinstance(entry, Mapping):
        names = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
        entry = [entry.get(name) for name in names]
    if not isinstance(entry, list) or len(entry) < 5:
        raise _bad(source, f"a link is {str(entry)[:60]}, not [id, from node, output, to node, input, type]")
    link_id, origin, origin_slot, target, target_slot = entry[:5]
    if not isinstance(origin_slot, int) or not isinstance(target_slot, int):
        raise _bad(source, f"link {str(link_id)[:20]} has a slot that is no number")
    return UiLink(str(link_id), str(origin), origin_slot, str(target), target_slot)


def _list(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list) else []


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in _list(value) if isinstance(item, Mapping)]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _bad(source: str, message: str) -> WorkflowError:
    return WorkflowError(f"{source}: {message}" if source else message, code="bad_ui_workflow")
