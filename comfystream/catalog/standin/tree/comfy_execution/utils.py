"""Which node is running now."""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import NamedTuple

__all__ = ["CurrentNodeContext", "ExecutionContext", "current_executing_context", "get_executing_context"]


class ExecutionContext(NamedTuple):
    """The running node, and the number of the item when it is called for each item of a list."""

    prompt_id: str
    node_id: str
    list_index: int | None


current_executing_context: ContextVar[ExecutionContext | None] = ContextVar("current_executing_context", default=None)


def get_executing_context() -> ExecutionContext | None:
    """The running node; None outside of one."""
    return current_executing_context.get()


class CurrentNodeContext:
    """Says that a node is running, for as long as the `with` lasts."""

    def __init__(self, prompt_id: str, node_id: str, list_index: int | None = None) -> None:
        self.context = ExecutionContext(prompt_id, node_id, list_index)
        self.token: Token[ExecutionContext | None] | None = None

    def __enter__(self) -> CurrentNodeContext:
        self.token = current_executing_context.set(self.context)
        return self

    def __exit__(self, *_: object) -> None:
        if self.token is not None:
            current_executing_context.reset(self.token)
