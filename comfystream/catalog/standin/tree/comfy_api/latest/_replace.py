"""How an old node is replaced by a new one."""

from __future__ import annotations

from typing import Any

InputMapOldId = dict[str, Any]
InputMapSetValue = dict[str, Any]
InputMap = dict[str, Any]
OutputMap = dict[str, int]


class NodeReplace:
    """A rule: `old_node_id` becomes `new_node_id`, inputs and outputs mapped."""

    def __init__(
        self,
        new_node_id: str,
        old_node_id: str,
        old_widget_ids: list[str] | None = None,
        input_mapping: list[InputMap] | None = None,
        output_mapping: list[OutputMap] | None = None,
    ) -> None:
        self.new_node_id = new_node_id
        self.old_node_id = old_node_id
        self.old_widget_ids = old_widget_ids
        self.input_mapping = input_mapping
        self.output_mapping = output_mapping

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            **vars(self),
            "input_mapping": list(self.input_mapping or []) or None,
            "output_mapping": list(self.output_mapping or []) or None,
        }
