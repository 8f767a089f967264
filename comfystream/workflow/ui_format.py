"""The editor's format turned into a workflow, by the rules of the editor itself but without a browser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfystream.catalog.spec import Catalog
from comfystream.errors import WorkflowError
from comfystream.workflow.model import Link, Literal, Node, Workflow
from comfystream.workflow.problem import Problem
from comfystream.workflow.ui_graph import BYPASS, MUTE, UiDocument, UiNode, parse_document
from comfystream.workflow.ui_links import VIRTUAL, Value, feeder
from comfystream.workflow.ui_scope import Scope, inner_scope
from comfystream.workflow.ui_widgets import named_values

__all__ = ["parse_ui"]

_MAX_DEPTH = 32
_MAX_GRAPHS = 10_000


def parse_ui(document: Mapping[str, Any], catalog: Catalog, *, source: str = "") -> Workflow:
    """A workflow from the editor's JSON.

    Muted nodes are dropped, bypassed ones are passed through, members of subgraphs get ids like "outer:inner", and
    widgets without a (fitting) value get their defaults. `Workflow.warnings` says what was replaced or left out.

    Args:
        document: the parsed file.
        catalog: the node classes, which give the widgets their names.
        source: what messages call the file.

    Raises:
        WorkflowError: a part is of the wrong kind, or it has legacy group nodes.
    """
    conversion = _Conversion(parse_document(document, source), catalog, source)
    conversion.add_graph(Scope(conversion.document.root))
    if not conversion.nodes:
        raise WorkflowError(_at(source, "the workflow has no nodes that would run"), code="empty_workflow")
    nodes = {node.id: _without_dangling(node, conversion.nodes) for node in conversion.nodes.values()}
    return Workflow(nodes, ui=document, source=source, warnings=tuple(conversion.warnings))


class _Conversion:
    def __init__(self, document: UiDocument, catalog: Catalog, source: str) -> None:
        self.document = document
        self.catalog = catalog
        self.source = source
        self.nodes: dict[str, Node] = {}
        self.warnings: list[Problem] = []
        self.graphs = 0

    def add_graph(self, scope: Scope) -> None:
        self.graphs += 1
        if scope.depth > _MAX_DEPTH:
            message = _at(self.source, "subgraphs are nested too deeply")
            raise WorkflowError(message, code="nested_too_deep", hint="one of them contains itself")
        if self.graphs > _MAX_GRAPHS:
            raise WorkflowError(_at(self.source, "too many subgraphs"), code="too_many_subgraphs")
        for node in scope.graph.nodes.values():
            if node.mode not in (MUTE, BYPASS) and node.type not in VIRTUAL:
                self._add_node(scope, node)

    def _add_node(self, scope: Scope, node: UiNode) -> None:
        definition = self.document.definitions.get(node.type)
        if definition is not None:
            self.add_graph(inner_scope(scope, node, definition))
            return
        if node.type.startswith(("workflow>", "workflow/")):
            raise _group_node(self.source, node)
        node_id = f"{scope.prefix}{node.id}"
        if self.catalog.get(node.type) is None and not _is_linked(node):
            self._warn("node_skipped", "Node is not known and not connected", "", node_id, node, "it is left out")
            return
        inputs = self._inputs(scope, node, node_id)
        self.nodes[node_id] = Node(node_id, node.type, inputs, node.title)

    def _inputs(self, scope: Scope, node: UiNode, node_id: str) -> dict[str, Any]:
        inputs = self._widget_inputs(node, node_id)
        for (member, name), value in scope.overrides.items():
            if member == node.id:
                inputs[name] = value
        values = {name: Literal(value) if isinstance(value, list) else value for name, value in inputs.items()}
        for slot in node.inputs:
            if slot.link is None:
                continue
            fed = feeder(self.document, scope, slot)
            if isinstance(fed, Link):
                values[slot.name] = fed
            elif isinstance(fed, Value):
                values[slot.name] = Literal(fed.value) if isinstance(fed.value, list) else fed.value
        return values

    def _widget_inputs(self, node: UiNode, node_id: str) -> dict[str, Any]:
        spec = self.catalog.get(node.type)
        if spec is None:
            return _guessed_values(node)
        named = named_values(spec, node.widgets)
        linked = {slot.name for slot in node.inputs if slot.link is not None}
        for name in named.replaced:
            if name not in linked:
                details = f"{name} is set to {named.values.get(name)!r}"
                hint = "the file was saved with another version of this node; look at its values"
                self._warn("widget_values_misaligned", "Saved value does not fit", details, node_id, node, hint, name)
        return named.values

    def _warn(
        self, kind: str, message: str, details: str, node_id: str, node: UiNode, hint: str, name: str | None = None
    ) -> None:
        self.warnings.append(
            Problem(
                kind,
                message,
                details=details,
                hint=hint,
                node_id=node_id,
                class_type=node.type,
                input_name=name,
                is_error=False,
            )
        )


def _guessed_values(node: UiNode) -> dict[str, Any]:
    """Values of a class that is not known: by name where the file has names, else newer files list the widgets."""
    if isinstance(node.widgets, Mapping):
        return dict(node.widgets)
    names = [slot.name for slot in node.inputs if slot.widget is not None]
    values = node.widgets or []
    return dict(zip(names, values, strict=True)) if len(names) == len(values) else {}


def _without_dangling(node: Node, known: Mapping[str, Node]) -> Node:
    """The node without links from nodes that are not there, such as muted ones."""
    inputs = {n: value for n, value in node.inputs.items() if not (isinstance(value, Link) and value.node not in known)}
    return Node(node.id, node.class_type, inputs, node.title)


def _is_linked(node: UiNode) -> bool:
    return any(slot.link is not None for slot in node.inputs) or bool(node.outputs)


def _group_node(source: str, node: UiNode) -> WorkflowError:
    return WorkflowError(
        _at(source, f'node {node.id} "{node.type}" is a group node of an old editor'),
        code="group_node",
        hint="open the file in ComfyUI, convert the group to a subgraph, and save it again",
        node_id=node.id,
    )


def _at(source: str, message: str) -> str:
    return f"{source}: {message}" if source else message
