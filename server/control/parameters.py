"""The values of a workflow that a person may turn, as typed controls."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from comfystream.catalog.dynamic import effective_inputs, entry_parts
from comfystream.catalog.spec import Catalog, NodeSpec
from comfystream.errors import WorkflowError
from comfystream.workflow.bind import bind
from comfystream.workflow.model import Link, Node, Workflow

from .described import Parameter

__all__ = ["parameters"]

Kind = Literal["int", "float", "boolean", "combo", "text"]
_KINDS: Mapping[str, Kind] = {
    "INT": "int",
    "FLOAT": "float",
    "BOOLEAN": "boolean",
    "STRING": "text",
    "COLOR": "text",
    "COMBO": "combo",
}
_PLAIN = (str, int, float, bool)
HEX_COLOR = re.compile("#[0-9a-fA-F]{6}")


def parameters(workflow: Workflow, catalog: Catalog) -> list[Parameter]:
    """What can be turned, in the order of the file; the live inputs and outputs themselves are left out."""
    try:
        ends = bind(workflow).node_ids
    except WorkflowError:
        ends = frozenset()
    found: list[Parameter] = []
    for node in workflow.nodes.values():
        spec = catalog.get(node.class_type)
        if spec is not None and node.id not in ends:
            found.extend(_of_node(node, spec))
    return found


def _of_node(node: Node, spec: NodeSpec) -> Iterator[Parameter]:
    declared = effective_inputs(spec, node.inputs)
    for name in declared:
        entry = declared.required.get(name, declared.optional.get(name))
        value = node.inputs.get(name)
        if entry is None or isinstance(value, Link):
            continue
        made = _parameter(node, spec, name, entry, value)
        if made is not None:
            yield made


def _parameter(node: Node, spec: NodeSpec, name: str, entry: Any, value: Any) -> Parameter | None:
    kind_of, options = entry_parts(entry)
    kind: Kind | None = "combo" if isinstance(kind_of, list | tuple) else _KINDS.get(str(kind_of))
    if kind is None or options.get("forceInput"):
        return None
    value = options.get("default") if value is None else value
    choices = list(kind_of) if isinstance(kind_of, list | tuple) else list(options.get("options") or ())
    if value is None:
        value = choices[0] if choices else None
    if not isinstance(value, _PLAIN):
        return None
    return Parameter(
        node=node.id,
        input=name,
        title=node.title or spec.display_name or node.class_type,
        class_type=node.class_type,
        label=name.replace("_", " "),
        kind=kind,
        value=value,
        minimum=_number(options.get("min")),
        maximum=_number(options.get("max")),
        step=_number(options.get("step")),
        options=[choice for choice in choices if isinstance(choice, _PLAIN)],
        is_multiline=bool(options.get("multiline")),
        is_color=_is_color(kind, kind_of, options, value),
        tooltip=str(options.get("tooltip") or ""),
    )


def _is_color(kind: Kind, kind_of: Any, options: Mapping[str, Any], value: Any) -> bool:
    if kind_of == "COLOR":
        return isinstance(value, str) and HEX_COLOR.fullmatch(value) is not None
    return kind == "int" and options.get("display") == "color"


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None
