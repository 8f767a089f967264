"""A workflow as data: nodes by id, inputs that are either links or constants. Immutable; an edit makes a new one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from comfystream.workflow.problem import Problem

__all__ = ["Link", "Literal", "Node", "Workflow"]


@dataclass(frozen=True, slots=True)
class Link:
    """Output `slot` (from 0) of the node with id `node`."""

    node: str
    slot: int


@dataclass(frozen=True, slots=True)
class Literal:
    """A list constant that came wrapped as `{"__value__": [...]}`, so that nobody takes it for a link."""

    value: list[Any]


@dataclass(frozen=True, slots=True)
class Node:
    """One node.

    Attributes:
        id: opaque string; members of a subgraph are `outer:inner`.
        class_type: key of the node class.
        inputs: name to `Link`, `Literal` or plain constant. A bare list that is no link stays a list here (the check
            reports it as `bad_linked_input`).
        title: display name, for messages only; may be empty.
    """

    id: str
    class_type: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""

    @property
    def place(self) -> str:
        """How messages name this node."""
        title = f" ({self.title})" if self.title and self.title != self.class_type else ""
        return f'node {self.id} "{self.class_type}"{title}'

    def links(self) -> Iterator[tuple[str, Link]]:
        """The linked inputs, in file order."""
        for name, value in self.inputs.items():
            if isinstance(value, Link):
                yield name, value


@dataclass(frozen=True, slots=True)
class Workflow:
    """A whole graph in API form.

    Attributes:
        nodes: by id, in file order.
        ui: the editor's own form of the same graph when the file had it (what ComfyUI calls
            `extra_pnginfo["workflow"]`), else None.
        source: where it came from, for messages ("edges.json"); may be empty.
        warnings: what reading it had to guess or leave out.
    """

    nodes: Mapping[str, Node]
    ui: Mapping[str, Any] | None = None
    source: str = ""
    warnings: tuple[Problem, ...] = ()
