"""Progress of nodes, kept per node and handed to whoever listens."""

from __future__ import annotations

from typing import Any

__all__ = ["ProgressHandler", "ProgressRegistry", "add_progress_handler", "get_progress_state", "reset_progress_state"]

PreviewImageTuple = tuple[str, Any, int | None]


class ProgressHandler:
    """Hears of progress; derive and override."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.enabled = True

    def update_handler(
        self, node_id: str, value: float, max_value: float, state: Any, prompt_id: str, image: Any = None
    ) -> None:
        """Called at each step."""


class ProgressRegistry:
    """Value and maximum per node id."""

    def __init__(self, prompt_id: str = "", dynprompt: Any = None) -> None:
        self.prompt_id = prompt_id
        self.dynprompt = dynprompt
        self.nodes: dict[str, dict[str, Any]] = {}
        self.handlers: dict[str, ProgressHandler] = {}

    def register_handler(self, handler: ProgressHandler) -> None:
        """Add a listener; one of the same name is replaced."""
        self.handlers[handler.name] = handler

    def unregister_handler(self, handler_name: str) -> None:
        """Take a listener away."""
        self.handlers.pop(handler_name, None)

    def update_progress(self, node_id: str, value: float, max_value: float, image: Any = None) -> None:
        """Note a step and tell the listeners."""
        state = self.nodes.setdefault(node_id, {})
        state.update(state="running", value=value, max=max_value)
        for handler in self.handlers.values():
            if handler.enabled:
                handler.update_handler(node_id, value, max_value, state, self.prompt_id, image)

    def start_progress(self, node_id: str) -> None:
        """Note that a node starts."""
        self.update_progress(node_id, 0.0, 1.0)

    def finish_progress(self, node_id: str) -> None:
        """Note that a node is done."""
        state = self.nodes.setdefault(node_id, {"value": 1.0, "max": 1.0})
        state.update(state="finished", value=state["max"])


_registry = ProgressRegistry()


def get_progress_state() -> ProgressRegistry:
    """The registry in force."""
    return _registry


def reset_progress_state(prompt_id: str, dynprompt: Any = None) -> None:
    """Start a new registry with the same listeners."""
    global _registry
    handlers = _registry.handlers
    _registry = ProgressRegistry(prompt_id, dynprompt)
    _registry.handlers = handlers


def add_progress_handler(handler: ProgressHandler) -> None:
    """Add a listener to the registry in force."""
    _registry.register_handler(handler)
