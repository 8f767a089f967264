"""Several workflows as one graph: what a client means that sends a list of prompts for one stream."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from comfystream.errors import WorkflowError
from comfystream.workflow.bind import PRIMARY, Bindings, bind
from comfystream.workflow.model import Link, Node, Workflow

__all__ = ["join", "place_of"]

_PLACE = re.compile(r"prompt(\d+)/(.+)", re.DOTALL)


def join(workflows: Sequence[Workflow]) -> Workflow:
    """One graph that does what all of them do with the same stream.

    Nodes of the first keep their ids, those of the others get `prompt1/`, `prompt2/` ... before theirs. There is one
    live picture and one live sound: the first workflow's that has one stands for all. Where several put out the same
    modality, the last one's is put out.

    Args:
        workflows: in order; a single one is given back as it is.

    Raises:
        WorkflowError: one of them has no usable inputs and outputs; the message says which.
    """
    if len(workflows) == 1:
        return workflows[0]
    ends = [_bound(number, one) for number, one in enumerate(workflows)]
    live = _live_ids(ends)
    last = {end.modality: number for number, bound in enumerate(ends) for end in bound.outputs}
    nodes: dict[str, Node] = {}
    for number, (workflow, bound) in enumerate(zip(workflows, ends, strict=True)):
        ids = {id: _id(number, id) for id in workflow.nodes}
        ids |= {end.node_id: live[end.modality] for end in bound.inputs}
        left = {end.node_id for end in bound.outputs if last[end.modality] != number}
        for node in workflow.nodes.values():
            if node.id not in left:
                nodes.setdefault(ids[node.id], _moved(node, ids))
    if "video" in live:
        nodes[live["video"]] = _primary(nodes[live["video"]])
    warnings = tuple(warning for workflow in workflows for warning in workflow.warnings)
    return Workflow(nodes, source=workflows[0].source, warnings=warnings)


def _bound(number: int, workflow: Workflow) -> Bindings:
    try:
        return bind(workflow)
    except WorkflowError as error:
        raise WorkflowError(
            f"prompt {number}: {error.message}", code=error.code, hint=error.hint, node_id=error.node_id
        ) from None


def _id(number: int, id: str) -> str:
    return f"prompt{number}/{id}" if number else id


def _live_ids(ends: Sequence[Bindings]) -> dict[str, str]:
    """Modality to the node that stands for all live inputs of it."""
    live: dict[str, str] = {}
    for number, bound in enumerate(ends):
        for end in bound.inputs:
            live.setdefault(end.modality, _id(number, end.node_id))
    return live


def _moved(node: Node, ids: Mapping[str, str]) -> Node:
    inputs = {
        name: Link(ids.get(value.node, value.node), value.slot) if isinstance(value, Link) else value
        for name, value in node.inputs.items()
    }
    return replace(node, id=ids[node.id], inputs=inputs)


def _primary(node: Node) -> Node:
    """The live picture has to be told from the still ones of the other workflows."""
    return replace(node, class_type=PRIMARY, inputs=dict(node.inputs) or {"image": ""})


def place_of(id: str) -> tuple[int, str]:
    """Which of the joined workflows a node came from, and its id there."""
    found = _PLACE.fullmatch(id)
    return (int(found[1]), found[2]) if found else (0, id)
