"""What nodes send to ComfyUI's editor, as events of the run that the node belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfystream.catalog.object_info import to_plain
from comfystream.clock import Clock
from comfystream.engine.events import NodeMessage

__all__ = ["PackMessages"]

# A node in a live graph sends with every frame; the editor that it was made for showed a few in a second.
LEAST_NS = 100_000_000
MOST_KINDS = 256


class PackMessages:
    """Lets a message through ten times a second per name and node, in a form that crosses a process border."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sent: dict[tuple[str, str], int] = {}

    def event(self, name: Any, data: Any) -> NodeMessage | None:
        """The event to send; None for what comes too often, or has no form as JSON (pictures, tensors)."""
        if not isinstance(name, str):  # a number names a binary message: a preview picture
            return None
        node_id = _node_of(data)
        now = self._clock.now_ns()
        key = (name, node_id)
        if now - self._sent.get(key, -LEAST_NS) < LEAST_NS:
            return None
        try:
            plain = to_plain(data, name)
        except TypeError:
            return None
        if len(self._sent) > MOST_KINDS:
            self._sent.clear()
        self._sent[key] = now
        return NodeMessage(name, plain, node_id)


def _node_of(data: Any) -> str:
    """The node that a message is about, if it says so in one of the ways that are usual."""
    if not isinstance(data, Mapping):
        return ""
    return str(next((data[key] for key in ("node", "node_id", "nodeId", "id") if data.get(key) is not None), ""))
