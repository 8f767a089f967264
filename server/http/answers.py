"""What the routes answer, where that is no message of the control protocol. The API page shows it."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, RootModel

from ..control.messages import ErrorBody
from ..control.said import Said

__all__ = [
    "ConfigAnswer",
    "ErrorAnswer",
    "HealthAnswer",
    "OfferAnswer",
    "Rates",
    "SessionBrief",
    "SourceFile",
    "SourcesAnswer",
    "StreamNotFound",
    "WorkflowAnswer",
    "WorkflowGraph",
]


class _Answer(Said):
    model_config = ConfigDict(extra="forbid")


class ErrorAnswer(_Answer):
    """Every status from 400 on."""

    error: ErrorBody


class IceServer(_Answer):
    """A STUN or TURN server, as browsers take it."""

    urls: list[str]
    username: str | None = None
    credential: str | None = None


class ConfigAnswer(_Answer):
    """What a page needs to connect: `iceServers` of its connection, and the version of the control protocol.

    `recording`: this server keeps recordings. `push_urls`: patterns of the receivers that it may send to.
    """

    ice_servers: list[IceServer]
    protocol: int
    recording: bool
    push_urls: list[str]


class WorkflowAnswer(_Answer):
    """A workflow of the server, in API format."""

    name: str
    workflow: dict[str, Any]


class SourceFile(_Answer):
    """A file that can be chosen as a source: its path in the server's folders, and its size in bytes."""

    path: str
    size: int


class SourcesAnswer(_Answer):
    """What can be chosen as a source: files, and the patterns of addresses."""

    files: list[SourceFile]
    urls: list[str]


class SessionBrief(_Answer):
    """A session in a list."""

    session: str
    state: str
    revision: int
    viewers: int


class EngineHealth(_Answer):
    """The engine: stopped, starting, ready, busy or failed, why, and how often it was started."""

    state: str
    reason: str
    starts: int


class HealthAnswer(_Answer):
    """The whole truth. `draining`: the server is ending and takes no new sessions."""

    draining: bool
    engine: EngineHealth
    node_classes: int
    broken_packs: list[str]
    sessions: int
    max_sessions: int


class OfferAnswer(_Answer):
    """The answer to an offer, and the session to come back to. `resource`: path of the connection."""

    sdp: str
    type: str
    session: str
    resource: str


class SecondRate(_Answer):
    """Pictures in one second of a stream."""

    timestamp: int
    fps: float


class Rates(_Answer):
    """Pictures per second of a stream, now and over a minute. `timestamp`: its age in seconds."""

    timestamp: float
    fps: float
    minute_avg_fps: float
    minute_fps_array: list[SecondRate]


class StreamNotFound(_Answer):
    """There is no such stream; the status is 200 all the same."""

    error: str


class WorkflowGraph(RootModel[dict[str, Any] | list[dict[str, Any]] | str]):
    """A workflow in API format, a list of one, or its text."""
