"""Node failures as people should see them: at once, then once a second with a count."""

from __future__ import annotations

from collections.abc import Callable

from comfystream.clock import Clock
from comfystream.engine.events import NodeBlocked, NodeFailed
from comfystream.engine.scheduler import Observer
from comfystream.engine.step import Step
from comfystream.errors import NodeError
from comfystream.frames import Lane

__all__ = ["BlockedObserver", "FailureLog"]

REPEAT_NS = 1_000_000_000


class FailureLog:
    """Turns what goes wrong in nodes into events without flooding. Used by one runner."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._reported: dict[tuple[str, str, str], tuple[int, int]] = {}

    def failed(self, error: NodeError, *, frame: int, lane: Lane, revision: int) -> NodeFailed | None:
        """The event to send for this failure, or None when an equal one was sent less than a second ago.

        `count` is how often the same failure came since the last event, this one included.
        """
        count = self._admit(error.node_id or "", error.exception_type, error.message)
        if count is None:
            return None
        return NodeFailed(
            node_id=error.node_id or "",
            class_type=error.class_type,
            message=error.message,
            hint=error.hint,
            exception_type=error.exception_type,
            trace=error.trace,
            frame=frame,
            lane=lane,
            revision=revision,
            count=count,
        )

    def blocked(self, node_id: str, class_type: str, message: str, revision: int) -> NodeBlocked | None:
        """The event to send for a node that a message blocks, or None when an equal one was sent just now."""
        count = self._admit(node_id, "ExecutionBlocked", message)
        return None if count is None else NodeBlocked(node_id, class_type, message, revision, count)

    def _admit(self, *key: *tuple[str, str, str]) -> int | None:
        """How many came since the last one that was reported, or None when this one is not to be reported."""
        now = self._clock.now_ns()
        sent, unsent = self._reported.get(key, (None, 0))
        if sent is not None and now - sent < REPEAT_NS:
            self._reported[key] = (sent, unsent + 1)
            return None
        if len(self._reported) > 256:  # messages that differ every time must not pile up
            self._reported.clear()
        self._reported[key] = (now, 0)
        return unsent + 1


class BlockedObserver(Observer):
    """Hears of blocked nodes while a revision ticks."""

    def __init__(self, report: Callable[[Step, str, int], None], revision: int) -> None:
        self._report = report
        self._revision = revision

    def blocked(self, step: Step, message: str) -> None:
        self._report(step, message, self._revision)
