"""Progress of preparing a revision, as events."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from comfystream.engine.events import OnEvent, Progress
from comfystream.engine.scheduler import Observer
from comfystream.engine.step import Step

__all__ = ["PrepareProgress", "Withdrawn"]


class Withdrawn(BaseException):
    """Ends what is no longer wanted from inside a node; not an Exception, so that nodes which catch all let it go."""


class PrepareProgress(Observer):
    """Counts the nodes that were run or found kept, and passes a node's own progress bar on.

    It is also where work that was withdrawn ends: before a node, and where a node says what it does.
    """

    def __init__(self, revision: int, on_event: OnEvent) -> None:
        self.revision = revision
        self._on_event = on_event
        self._phase = ""
        self._total = 0
        self._done = 0
        self._node_id: str | None = None
        self._said = ("", -1)
        self._is_withdrawn = threading.Event()

    def withdraw(self) -> None:
        """It is no longer wanted; any thread may say so."""
        self._is_withdrawn.set()

    def check(self) -> None:
        """Go on, or not.

        Raises:
            Withdrawn: it is no longer wanted.
        """
        if self._is_withdrawn.is_set():
            raise Withdrawn

    def phase(self, name: str, total: int = 0) -> None:
        """A new phase begins."""
        self.check()
        self._phase, self._total, self._done, self._node_id = name, total, 0, None
        self._send()

    def started(self, step: Step) -> None:
        self.check()
        self._node_id = step.display_id
        self._send()

    def finished(self, step: Step, ui: Mapping[str, Any] | None) -> None:
        self._done += 1
        self._send()

    def cached(self, step: Step, ui: Mapping[str, Any] | None) -> None:
        self._done += 1

    def steps(self, value: float, maximum: float, node_id: str | None = None, message: str = "") -> None:
        """A node's own progress bar moved, or it said what it does; the same words are passed on per percent."""
        self.check()
        said = (message, round(100 * value / maximum) if maximum else 0)
        if message and said == self._said:
            return
        self._said = said
        node = node_id or self._node_id
        self._on_event(Progress(self.revision, self._phase, self._done, self._total, node, value, maximum, message))

    def _send(self) -> None:
        self._on_event(Progress(self.revision, self._phase, self._done, self._total, self._node_id))
