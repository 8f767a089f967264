"""Edits of a workflow: some values, or the whole graph. An edit never changes a workflow, it makes a new one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated, Any
from typing import Literal as OneOf

from pydantic import BaseModel, ConfigDict, Field

from comfystream.catalog.dynamic import effective_inputs
from comfystream.catalog.spec import Catalog
from comfystream.errors import WorkflowError
from comfystream.workflow.api_format import to_input
from comfystream.workflow.model import Link, Literal, Node, Workflow
from comfystream.workflow.problem import did_you_mean
from comfystream.workflow.read import parse_workflow

__all__ = ["Edit", "Patch", "SetValues", "SetWorkflow", "apply", "parse_target"]


class Patch(BaseModel):
    """One input of one node gets a new value.

    Attributes:
        node: id of the node.
        input: name of the input.
        value: a constant, a `[node id, output]` link, or a list wrapped as `{"__value__": [...]}`.
        relink: allows a constant in place of a link.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    node: str = Field(max_length=1000)
    input: str = Field(max_length=1000)
    value: Any
    relink: bool = False


class SetValues(BaseModel):
    """Some inputs get new values, all or none of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: OneOf["values"] = "values"
    patches: list[Patch] = Field(min_length=1, max_length=10_000)


class SetWorkflow(BaseModel):
    """The whole graph is replaced; `workflow` is API or UI format JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: OneOf["workflow"] = "workflow"
    workflow: dict[str, Any]


Edit = Annotated[SetValues | SetWorkflow, Field(discriminator="kind")]


def apply(workflow: Workflow, edit: SetValues | SetWorkflow, catalog: Catalog | None = None) -> Workflow:
    """The workflow after the edit. Whether it can run is for the check to say.

    Args:
        workflow: the graph as it is.
        edit: what to change.
        catalog: node classes, which tell the names of inputs that are not set yet.

    Raises:
        WorkflowError: a node, an input or a linked node that is not there, or a constant in place of a link.
    """
    if isinstance(edit, SetWorkflow):
        return parse_workflow(edit.workflow, catalog, source=workflow.source)
    nodes = dict(workflow.nodes)
    for patch in edit.patches:
        node = _find(nodes, patch.node)
        value = _checked_value(nodes, node, patch, catalog)
        nodes[node.id] = replace(node, inputs={**node.inputs, patch.input: value})
    # the editor's own form no longer tells the same graph
    return replace(workflow, nodes=nodes, ui=None)


def parse_target(workflow: Workflow, text: str, catalog: Catalog | None = None) -> Patch:
    """A patch from `node.input=value`, as `--set` has it.

    The node goes by id, by title, or by class key when only one node has it. The value is JSON, or else a string.

    Raises:
        WorkflowError: it is not of that form, or there is no such node or input, or several.
    """
    target, equals, value = text.partition("=")
    if not equals or "." not in target:
        raise WorkflowError(
            f'"{text}" does not say what to set', code="bad_target", hint="write node.input=value, such as 7.radius=3"
        )
    node, name = _split_target(workflow, target, catalog)
    _check_input(node, name, catalog)
    return Patch(node=node.id, input=name, value=_value(value))


def _split_target(workflow: Workflow, target: str, catalog: Catalog | None) -> tuple[Node, str]:
    """Node and input; titles, ids and inputs may hold dots themselves, so every split is tried."""
    dots = [index for index, char in enumerate(target) if char == "."]
    splits = [(target[:dot].strip(), target[dot + 1 :].strip()) for dot in dots]
    found = [(nodes, name) for wanted, name in splits if (nodes := _nodes_called(workflow, wanted))]
    if not found:
        raise _unknown_node(workflow, splits[0][0])
    known = [(nodes, name) for nodes, name in found if any(_has_input(node, name, catalog) for node in nodes)]
    nodes, name = (known or found)[0]
    if len(nodes) > 1:
        ids = ", ".join(node.id for node in nodes)
        raise WorkflowError(
            f'"{target}" fits several nodes: {ids}', code="ambiguous_node", hint=f"use the id: {nodes[0].id}.{name}=..."
        )
    return nodes[0], name


def _nodes_called(workflow: Workflow, name: str) -> list[Node]:
    if name in workflow.nodes:
        return [workflow.nodes[name]]
    nodes = workflow.nodes.values()
    return [node for node in nodes if node.title == name] or [node for node in nodes if node.class_type == name]


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return {"__value__": value} if isinstance(value, list) and not isinstance(to_input(value), Link) else value


def _find(nodes: dict[str, Node], node_id: str) -> Node:
    node = nodes.get(node_id)
    if node is None:
        raise _unknown_node(Workflow(nodes), node_id)
    return node


def _unknown_node(workflow: Workflow, name: str) -> WorkflowError:
    nodes = workflow.nodes.values()
    names = [*workflow.nodes, *(node.title for node in nodes if node.title), *(node.class_type for node in nodes)]
    listed = ", ".join(node.place for node in list(nodes)[:5])
    hint = did_you_mean(name, names, f"there are: {listed}{', ...' if len(nodes) > 5 else ''}")
    return WorkflowError(f'there is no node "{name}" in the workflow', code="unknown_node", hint=hint)


def _checked_value(nodes: dict[str, Node], node: Node, patch: Patch, catalog: Catalog | None) -> Any:
    _check_input(node, patch.input, catalog)
    value = to_input(patch.value)
    if isinstance(value, Link):
        if value.node not in nodes:
            raise _unknown_node(Workflow(nodes), value.node)
        return value
    if isinstance(node.inputs.get(patch.input), Link) and not patch.relink:
        link = node.inputs[patch.input]
        raise WorkflowError(
            f'input "{patch.input}" of {node.place} is linked to node {link.node}, it takes no value of its own',
            code="linked_input",
            hint=f"change {nodes[link.node].place} instead" if link.node in nodes else "",
            node_id=node.id,
        )
    return Literal(value) if isinstance(value, list) else value


def _check_input(node: Node, name: str, catalog: Catalog | None) -> None:
    if _has_input(node, name, catalog):
        return
    raise WorkflowError(
        f'{node.place} has no input "{name}"',
        code="unknown_input",
        hint=did_you_mean(name, _input_names(node, catalog), f"it has: {', '.join(_input_names(node, catalog))}"),
        node_id=node.id,
    )


def _has_input(node: Node, name: str, catalog: Catalog | None) -> bool:
    return name in _input_names(node, catalog) or _takes_any(node, name, catalog)


def _takes_any(node: Node, name: str, catalog: Catalog | None) -> bool:
    """Whether the class "contains" a name that it does not list."""
    spec = catalog.get(node.class_type) if catalog is not None else None
    return spec is not None and effective_inputs(spec, node.inputs).get(name) is not None


def _input_names(node: Node, catalog: Catalog | None) -> list[str]:
    spec = catalog.get(node.class_type) if catalog is not None else None
    if spec is None:
        return list(node.inputs)
    effective = effective_inputs(spec, node.inputs)
    return list(dict.fromkeys([*effective, *effective.unchosen, *node.inputs]))
