"""The engine's events as lines for a person."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from comfystream.engine.events import EngineRestarted, Event, NodeFailed, PackBroken

__all__ = ["EventLines"]


class EventLines:
    """Prints what a person should know while a job runs. Called on threads of the engine.

    Args:
        console: where to; it keeps lines and progress bar apart.
        stops: whether a failing node ends the job, which then says so itself.
    """

    def __init__(self, console: Console, *, stops: bool) -> None:
        self._console = console
        self._stops = stops

    def show(self, event: Event) -> None:
        """One line, or nothing."""
        match event:
            case NodeFailed() if not self._stops:
                times = f" ({event.count} times)" if event.count > 1 else ""
                hint = f" ({event.hint})" if event.hint else ""
                node = f'node {event.node_id} "{event.class_type}"'
                self._line(f"frame {event.frame}: {node}: {event.message}{hint}{times}")
            case EngineRestarted():
                self._line(f"the engine was started again: {event.reason}")
            case PackBroken():
                self._line(f"node pack {event.pack}: {event.message}")

    def _line(self, text: str) -> None:
        self._console.print(f"comfystream: {escape(' '.join(text.split()))}", soft_wrap=True, highlight=False)
