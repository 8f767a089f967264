"""How a source that was chosen for a session is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from threading import Event

from comfystream.media.source import Source

__all__ = ["NOBODY", "SourcePlan", "SourceState", "SourceStatus"]


class SourceState(StrEnum):
    """What a chosen source does."""

    VIEWERS = "viewers"  # none is chosen: whoever comes and sends has the place
    OPENING = "opening"
    RUNNING = "running"
    RECONNECTING = "reconnecting"  # it was lost and is tried again
    ENDED = "ended"  # it came to its end; the last picture is shown on
    FAILED = "failed"

    @property
    def is_active(self) -> bool:
        """Whether frames come, or may come by themselves."""
        return self in (SourceState.OPENING, SourceState.RUNNING, SourceState.RECONNECTING)


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """The chosen source: its type as in the control protocol, its name for people, how it is, and why."""

    type: str = "viewer"
    name: str = ""
    state: SourceState = SourceState.VIEWERS
    reason: str = ""


NOBODY = SourceStatus()


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """A source that may be opened.

    Attributes:
        type, name: as in `SourceStatus`.
        open: opens it, on a thread; the event is set when nobody wants it any more. None for a source that sends
            nothing and keeps others from sending.
        is_stream: it comes from the network as it is made: a loss is mended by opening it again.
        is_paced: its frames come faster than they are to be shown.
        is_awaited: it waits for somebody who sends, so it is in force before anything comes.
    """

    type: str
    name: str
    open: Callable[[Event], Source] | None
    is_stream: bool = False
    is_paced: bool = True
    is_awaited: bool = False
