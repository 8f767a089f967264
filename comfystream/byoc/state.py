"""The states of a worker and of its streams."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from comfystream.byoc.messages import StateBody, Status

__all__ = ["LoadState", "StreamState", "may_follow", "overall", "state_body"]


class LoadState(StrEnum):
    """How far the worker is with what it has to load before any stream."""

    LOADING = "LOADING"
    READY = "READY"
    ERROR = "ERROR"  # it could not; it is tried again
    CLOSED = "CLOSED"


class StreamState(StrEnum):
    """How far a stream is. One that is over is no longer there."""

    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"


_NEXT: Mapping[StreamState, frozenset[StreamState]] = {
    StreamState.STARTING: frozenset({StreamState.RUNNING, StreamState.STOPPING}),
    StreamState.RUNNING: frozenset({StreamState.STOPPING}),
    StreamState.STOPPING: frozenset(),
}


def may_follow(now: StreamState, then: StreamState) -> bool:
    """Whether a stream may go from one state to the other."""
    return then in _NEXT[now]


def overall(load: LoadState, streams: Iterable[StreamState]) -> str:
    """One word for all: LOADING, IDLE, STARTING, RUNNING, STOPPING or ERROR."""
    states = frozenset(streams)
    if load is LoadState.ERROR:
        return "ERROR"
    for state in (StreamState.RUNNING, StreamState.STARTING, StreamState.STOPPING):
        if state in states:
            return str(state)
    return "IDLE" if load is LoadState.READY else "LOADING"


def state_body(
    load: LoadState, streams: Mapping[str, StreamState], capacity: int, error: str = "", tasks: int = 0
) -> StateBody:
    """What is said about the worker.

    Args:
        load: how far it is.
        streams: its streams by name.
        capacity: how many it may have.
        error: why it could not load.
        tasks: of the event loop; a worker that is watched for long shows with it whether something is left behind.
    """
    word = overall(load, streams.values())
    status: Status
    match word:
        case "ERROR":
            status = "ERROR"
        case "LOADING":
            status = "LOADING"
        case "IDLE":
            status = "IDLE"
        case _:
            status = "OK"
    is_ready = load is LoadState.READY
    return StateBody(
        status=status,
        state=status,
        error_message=error or None,
        pipeline_ready=is_ready,
        active_streams=len(streams),
        startup_complete=is_ready,
        pipeline_state=word,
        additional_info={"capacity": capacity, "streams": dict(streams), "tasks": tasks},
    )
