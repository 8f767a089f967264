"""Calls that nodes make into the program that runs them."""

from __future__ import annotations

from typing import Any

from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context


def _report(value: float, max_value: float, node_id: str | None, preview_image: Any) -> None:
    context = get_executing_context()
    running = node_id or (context.node_id if context is not None else None)
    if running is None:
        raise ValueError("set_progress outside of a running node needs a node_id")
    get_progress_state().update_progress(running, value, max_value, preview_image)


class ComfyAPI:
    """For async nodes."""

    class Execution:
        """Of the running node."""

        async def set_progress(
            self,
            value: float,
            max_value: float,
            node_id: str | None = None,
            preview_image: Any = None,
            ignore_size_limit: bool = False,
        ) -> None:
            """Report how far a node is."""
            _report(value, max_value, node_id, preview_image)

    def __init__(self) -> None:
        self.execution: Any = self.Execution()


class ComfyAPISync:
    """For other nodes."""

    class Execution:
        """Of the running node."""

        def set_progress(
            self,
            value: float,
            max_value: float,
            node_id: str | None = None,
            preview_image: Any = None,
            ignore_size_limit: bool = False,
        ) -> None:
            """Report how far a node is."""
            _report(value, max_value, node_id, preview_image)

    def __init__(self) -> None:
        self.execution: Any = self.Execution()
