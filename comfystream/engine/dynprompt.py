"""The graph as nodes may look at it while they run (hidden input DYNPROMPT), with the nodes that expansion adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["DynamicPrompt"]


class DynamicPrompt:
    """The prompt in API form plus ephemeral nodes. The method names are those that node packs call on ComfyUI's."""

    def __init__(self, original: Mapping[str, Any]) -> None:
        self.original_prompt = original
        self.ephemeral_prompt: dict[str, Any] = {}
        self.ephemeral_parents: dict[str, str] = {}
        self.ephemeral_display: dict[str, str] = {}

    def get_node(self, node_id: str) -> Mapping[str, Any]:
        """The node in API form.

        Raises:
            KeyError: there is no such node.
        """
        found = self.ephemeral_prompt.get(node_id) or self.original_prompt.get(node_id)
        if found is None:
            raise KeyError(f"there is no node {node_id}")
        node: Mapping[str, Any] = found
        return node

    def has_node(self, node_id: str) -> bool:
        """Whether the node exists, ephemeral ones included."""
        return node_id in self.original_prompt or node_id in self.ephemeral_prompt

    def add_ephemeral_node(self, node_id: str, node_info: Any, parent_id: str, display_id: str) -> None:
        """Add a node made by the expansion of `parent_id`."""
        self.ephemeral_prompt[node_id] = node_info
        self.ephemeral_parents[node_id] = parent_id
        self.ephemeral_display[node_id] = display_id

    def get_real_node_id(self, node_id: str) -> str:
        """The node of the workflow file that an ephemeral node comes from."""
        while node_id in self.ephemeral_parents:
            node_id = self.ephemeral_parents[node_id]
        return node_id

    def get_parent_node_id(self, node_id: str) -> str | None:
        """The node whose expansion made this one, or None."""
        return self.ephemeral_parents.get(node_id)

    def get_display_node_id(self, node_id: str) -> str:
        """The id that people see."""
        while node_id in self.ephemeral_display:
            node_id = self.ephemeral_display[node_id]
        return node_id

    def all_node_ids(self) -> set[str]:
        """All ids, ephemeral ones included."""
        return {*self.original_prompt, *self.ephemeral_prompt}

    def get_original_prompt(self) -> Mapping[str, Any]:
        """The prompt as it was submitted."""
        return self.original_prompt
