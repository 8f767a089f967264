"""Graphs that a node returns in its place, and the value that blocks what hangs on it."""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = ["ExecutionBlocker", "GraphBuilder", "Node", "add_graph_prefix", "is_link"]


def is_link(obj: object) -> bool:
    """Whether a value in an API graph is a link: a list of a node id and an output number."""
    return isinstance(obj, list) and len(obj) == 2 and isinstance(obj[0], str) and isinstance(obj[1], int | float)


class ExecutionBlocker:
    """As an output: nothing that takes it is run. With a message it is an error that a person sees."""

    def __init__(self, message: str | None) -> None:
        self.message = message


class Node:
    """A node of a graph under construction."""

    def __init__(self, id: str, class_type: str, inputs: dict[str, Any]) -> None:
        self.id = id
        self.class_type = class_type
        self.inputs = inputs
        self.override_display_id: str | None = None

    def out(self, index: int) -> list[Any]:
        """A link to one of its outputs."""
        return [self.id, index]

    def set_input(self, key: str, value: Any) -> None:
        """Give an input; None takes it away."""
        if value is None:
            self.inputs.pop(key, None)
        else:
            self.inputs[key] = value

    def get_input(self, key: str) -> Any:
        """The input as given, or None."""
        return self.inputs.get(key)

    def set_override_display_id(self, override_display_id: str) -> None:
        """Report its events as those of another node."""
        self.override_display_id = override_display_id

    def serialize(self) -> dict[str, Any]:
        """As in an API graph."""
        plain: dict[str, Any] = {"class_type": self.class_type, "inputs": self.inputs}
        if self.override_display_id is not None:
            plain["override_display_id"] = self.override_display_id
        return plain


class GraphBuilder:
    """Builds an API graph whose ids are unique in the whole run: `<node>.<call>.<graph>.<local id>`."""

    _root: ClassVar[str] = ""
    _call_index: ClassVar[int] = 0
    _graph_index: ClassVar[int] = 0

    def __init__(self, prefix: str | None = None) -> None:
        self.prefix = self.alloc_prefix() if prefix is None else prefix
        self.nodes: dict[str, Node] = {}
        self.id_gen = 1

    @classmethod
    def set_default_prefix(cls, prefix_root: str, call_index: int, graph_index: int = 0) -> None:
        """Called by the executor before a node that may build graphs."""
        GraphBuilder._root = prefix_root
        GraphBuilder._call_index = call_index
        GraphBuilder._graph_index = graph_index

    @classmethod
    def alloc_prefix(
        cls, root: str | None = None, call_index: int | None = None, graph_index: int | None = None
    ) -> str:
        """A prefix that was not given out before; what is None comes from the executor."""
        parts = (
            GraphBuilder._root if root is None else root,
            GraphBuilder._call_index if call_index is None else call_index,
            GraphBuilder._graph_index if graph_index is None else graph_index,
        )
        GraphBuilder._graph_index += 1
        return ".".join(str(part) for part in parts) + "."

    def node(self, class_type: str, id: str | None = None, **kwargs: Any) -> Node:
        """Add a node with these inputs; with an id that is there already, that node."""
        if id is None:
            id = str(self.id_gen)
            self.id_gen += 1
        full = self.prefix + id
        return self.nodes.setdefault(full, Node(full, class_type, kwargs))

    def lookup_node(self, id: str) -> Node | None:
        """The node of that local id."""
        return self.nodes.get(self.prefix + id)

    def finalize(self) -> dict[str, Any]:
        """The API graph."""
        return {id: node.serialize() for id, node in self.nodes.items()}

    def replace_node_output(self, node_id: str, index: int, new_value: Any) -> None:
        """Put `new_value` wherever that output is linked; None takes the inputs away."""
        link = [self.prefix + node_id, index]
        for node in self.nodes.values():
            for key in [key for key, value in node.inputs.items() if is_link(value) and value == link]:
                node.set_input(key, new_value)

    def remove_node(self, id: str) -> None:
        """Take a node out."""
        del self.nodes[self.prefix + id]


def add_graph_prefix(graph: dict[str, Any], outputs: Any, prefix: str) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """The graph and its outputs with every id prefixed."""

    def moved(value: Any) -> Any:
        return [prefix + value[0], value[1]] if is_link(value) else value

    prefixed = {
        prefix + id: {
            "class_type": node["class_type"],
            "inputs": {name: moved(value) for name, value in node.get("inputs", {}).items()},
        }
        for id, node in graph.items()
    }
    return prefixed, tuple(moved(value) for value in outputs)
