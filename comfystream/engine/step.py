"""A step: one node of a plan, with its inputs sorted into constants, links and what the engine fills in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from comfystream.catalog.spec import NodeSpec
from comfystream.frames import Lane
from comfystream.workflow.model import Link, Literal, Node

__all__ = ["Schedule", "Step", "make_step"]


class Schedule(Enum):
    """When a step runs."""

    STATIC = "static"  # nothing live above it: once, and kept
    VOLATILE = "volatile"  # nothing live above it, but a fingerprint (IS_CHANGED): again when that changes
    LIVE = "live"  # every tick of its lane


@dataclass(frozen=True, slots=True)
class Step:
    """One node as the engine runs it.

    Attributes:
        id, spec, title: the node.
        constants: inputs with a constant value that the function gets.
        links: inputs that come from another node, in file order.
        lazy: names among `links` that are evaluated only when the node asks for them.
        raw: names among `links` whose argument is the link itself, as `[node, slot]` (`rawLink`).
        hidden: argument name to marker, for V1 functions ("UNIQUE_ID", "PROMPT", ...).
        schedule, lane: when it runs; `lane` is None for STATIC.
        used: output slots that another step or an output reads, ascending.
        parent: for nodes made by expansion, the id of the node that made them.
        display_id: the id that people see for it.
    """

    id: str
    spec: NodeSpec
    title: str
    constants: Mapping[str, Any]
    links: tuple[tuple[str, Link], ...]
    lazy: frozenset[str] = frozenset()
    raw: frozenset[str] = frozenset()
    hidden: Mapping[str, str] = field(default_factory=dict)
    schedule: Schedule = Schedule.STATIC
    lane: Lane | None = None
    used: tuple[int, ...] = ()
    parent: str | None = None
    display_id: str = ""

    def with_schedule(self, schedule: Schedule, lane: Lane | None) -> Step:
        """The same step on another schedule."""
        return replace(self, schedule=schedule, lane=lane)

    @property
    def is_async(self) -> bool:
        """Whether calling the function gives a coroutine."""
        return self.spec.is_async

    @property
    def asks_for_lazy(self) -> bool:
        """Whether the node decides per tick which of its linked inputs it wants."""
        return bool(self.lazy) and self.spec.has_lazy_status


def make_step(node: Node, spec: NodeSpec, *, parent: str | None = None, display_id: str = "") -> Step:
    """Sort a node's inputs the way ComfyUI's executor passes them.

    Declared inputs are passed, an undeclared constant is dropped, an undeclared link is passed on. `rawLink` inputs get
    the link itself as `[node, slot]`.
    """
    constants: dict[str, Any] = {}
    links: list[tuple[str, Link]] = []
    lazy: set[str] = set()
    raw: set[str] = set()
    hidden_section = spec.inputs.get("hidden") or {}
    for name, value in node.inputs.items():
        declared = spec.input(name)
        options = declared[1] if declared is not None else {}
        if isinstance(value, Link):
            links.append((name, value))
            if options.get("rawLink"):
                raw.add(name)
            if options.get("lazy"):
                lazy.add(name)
        elif declared is not None or spec.accept_all_inputs or spec.has_dynamic_inputs or name in hidden_section:
            constants[name] = value.value if isinstance(value, Literal) else value
    return Step(
        id=node.id,
        spec=spec,
        title=node.title,
        constants=constants,
        links=tuple(links),
        lazy=frozenset(lazy),
        raw=frozenset(raw),
        hidden=dict(spec.hidden or {}),
        parent=parent,
        display_id=display_id or node.id,
    )
