"""ComfyUI's API format: what a server runs. Read from parsed JSON and written back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfystream.errors import WorkflowError
from comfystream.workflow.model import Link, Literal, Node, Workflow

__all__ = ["is_api_format", "parse_api", "to_api", "to_input", "to_json_value"]

WRAPPER = "__value__"


def is_api_format(document: Mapping[str, Any]) -> bool:
    """Whether any entry looks like an API-format node."""
    return any(isinstance(entry, Mapping) and "class_type" in entry for entry in document.values())


def parse_api(document: Mapping[str, Any], *, source: str = "", ui: Mapping[str, Any] | None = None) -> Workflow:
    """A workflow from API-format JSON (node id to node object).

    Raises:
        WorkflowError: an entry is no node, or a part of a node is of the wrong kind.
    """
    if not document:
        raise WorkflowError(_at(source, "the workflow has no nodes"), code="empty_workflow")
    nodes = {node_id: _node(node_id, entry, source) for node_id, entry in document.items()}
    return Workflow(nodes, ui=ui, source=source)


def to_api(workflow: Workflow) -> dict[str, Any]:
    """The workflow as API-format JSON. Literals are wrapped as `{"__value__": [...]}`."""
    return {node.id: _entry(node) for node in workflow.nodes.values()}


def to_input(value: Any) -> Any:
    """An input value as the model has it: `Link`, `Literal` or a plain constant."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and type(value[1]) is int:
        return Link(value[0], value[1])
    if isinstance(value, Mapping) and WRAPPER in value:
        inner = value[WRAPPER]
        return Literal(inner) if isinstance(inner, list) else inner
    return value


def to_json_value(value: Any) -> Any:
    """The opposite of `to_input`."""
    if isinstance(value, Link):
        return [value.node, value.slot]
    if isinstance(value, Literal):
        return {WRAPPER: value.value}
    return value


def _node(node_id: str, entry: Any, source: str) -> Node:
    if not isinstance(entry, Mapping):
        raise WorkflowError(
            _at(source, f'entry "{node_id}" is {_kind(entry)}, not a node'),
            code="not_a_node",
            hint="every entry of an API-format workflow is an object with class_type and inputs",
        )
    title = _title(entry)
    place = f'node "{node_id}"' + (f" ({title})" if title else "")
    class_type = entry.get("class_type")
    if class_type is None:
        raise WorkflowError(
            _at(source, f"{place} has no class_type"),
            code="missing_class_type",
            hint="the file may be damaged; export it again with Save (API Format)",
            node_id=node_id,
        )
    if not isinstance(class_type, str) or not class_type:
        message = f"class_type of {place} is {_kind(class_type)}, not the name of a node class"
        raise WorkflowError(_at(source, message), code="wrong_kind", node_id=node_id)
    inputs = entry.get("inputs", {})
    if not isinstance(inputs, Mapping):
        message = f"inputs of {place} are {_kind(inputs)}, not an object"
        raise WorkflowError(_at(source, message), code="wrong_kind", node_id=node_id)
    return Node(node_id, class_type, {name: to_input(value) for name, value in inputs.items()}, title)


def _title(entry: Mapping[str, Any]) -> str:
    meta = entry.get("_meta")
    title = meta.get("title") if isinstance(meta, Mapping) else None
    return title if isinstance(title, str) else ""


def _entry(node: Node) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "class_type": node.class_type,
        "inputs": {name: to_json_value(value) for name, value in node.inputs.items()},
    }
    if node.title:
        entry["_meta"] = {"title": node.title}
    return entry


def _at(source: str, message: str) -> str:
    return f"{source}: {message}" if source else message


def _kind(value: Any) -> str:
    """How a message calls a JSON value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "a string" if value else "an empty string"
    if isinstance(value, int | float):
        return "a number"
    return "a list" if isinstance(value, list) else "an object"
