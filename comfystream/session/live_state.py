"""The states of a live session, and what its listeners hear."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from comfystream.engine.events import Event
from comfystream.errors import EngineError
from comfystream.frames import TextCue
from comfystream.session.live_sink_state import SinkChanged
from comfystream.session.source_state import NOBODY, SourceStatus

__all__ = [
    "Change",
    "PrepareFailed",
    "PresetsChanged",
    "RevisionChanged",
    "SessionEvent",
    "SessionState",
    "ShuttingDown",
    "SizeChanged",
    "SourceChanged",
    "StateChanged",
    "StateMachine",
]


class SessionState(StrEnum):
    """What a session does with the frames that it gets."""

    IDLE = "idle"  # there is no workflow: they are given back as they came
    PREPARING = "preparing"  # a workflow is loaded and none runs: as above before the first, as below after a failure
    RUNNING = "running"  # they go through the workflow
    PAUSED = "paused"  # they are dropped, viewers keep the last picture
    FAILED = "failed"  # the engine gave up; setting a workflow starts again
    ENDED = "ended"


_NEXT: Mapping[SessionState, frozenset[SessionState]] = {
    SessionState.IDLE: frozenset({SessionState.PREPARING, SessionState.PAUSED, SessionState.ENDED}),
    SessionState.PREPARING: frozenset(
        {SessionState.IDLE, SessionState.RUNNING, SessionState.PAUSED, SessionState.FAILED, SessionState.ENDED}
    ),
    SessionState.RUNNING: frozenset({SessionState.PAUSED, SessionState.FAILED, SessionState.ENDED}),
    SessionState.PAUSED: frozenset({SessionState.IDLE, SessionState.RUNNING, SessionState.FAILED, SessionState.ENDED}),
    SessionState.FAILED: frozenset({SessionState.PREPARING, SessionState.ENDED}),
    SessionState.ENDED: frozenset(),
}


class StateMachine:
    """The state of one session.

    Args:
        on_change: hears the new state, and why if nobody asked for it.
    """

    def __init__(self, on_change: Callable[[SessionState, str], None]) -> None:
        self._on_change = on_change
        self._now = SessionState.IDLE

    @property
    def now(self) -> SessionState:
        """The state that it is in."""
        return self._now

    def may_become(self, state: SessionState) -> bool:
        """Whether `state` may follow the one that it is in."""
        return state in _NEXT[self._now]

    def go(self, state: SessionState, reason: str = "") -> None:
        """The only way to another state; nothing happens when it is in `state` already.

        Raises:
            EngineError: `state` may not follow.
        """
        if state is self._now:
            return
        if not self.may_become(state):
            raise EngineError(f"a session that is {self._now} cannot become {state}", code="wrong_state")
        self._now = state
        self._on_change(state, reason)


@dataclass(frozen=True, slots=True)
class Change:
    """What an edit came to.

    Attributes:
        revision: the session's revision that is in force now; 0 before there is a workflow.
        first_frame: id of the first frame that it made; None when no frames come at the moment.
    """

    revision: int
    first_frame: int | None = None


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The session went to `state`; `reason` says why when nobody asked for it."""

    state: SessionState
    revision: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RevisionChanged:
    """Revision `revision` is in force; `who` made it and `why`."""

    revision: int
    who: str = ""
    why: str = ""
    first_frame: int | None = None


@dataclass(frozen=True, slots=True)
class PrepareFailed:
    """What was being prepared does not come into force, and `reason` why; what ran before goes on."""

    revision: int
    reason: str


@dataclass(frozen=True, slots=True)
class SourceChanged:
    """Frames come from `who` now, from nobody when it is empty; `chosen` is the source that somebody asked for."""

    who: str
    chosen: SourceStatus = NOBODY


@dataclass(frozen=True, slots=True)
class ShuttingDown:
    """The server is ending: in `seconds` at the latest nothing comes any more."""

    seconds: float


@dataclass(frozen=True, slots=True)
class SizeChanged:
    """Pictures get their size by `mode` from now on; width and height as in `FrameSize`."""

    mode: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class PresetsChanged:
    """A preset was saved or deleted: `name`."""

    name: str


SessionEvent = (
    StateChanged
    | RevisionChanged
    | PrepareFailed
    | SourceChanged
    | SinkChanged
    | SizeChanged
    | PresetsChanged
    | ShuttingDown
    | TextCue
    | Event
)
