"""What an engine tells while it runs: each event is plain data, and crosses from the engine's process as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from comfystream.frames import Lane

__all__ = [
    "Activated",
    "EngineLost",
    "EngineRestarted",
    "Event",
    "NodeBlocked",
    "NodeFailed",
    "NodeMessage",
    "OnEvent",
    "PackBroken",
    "Progress",
    "RolledBack",
    "Stopped",
]


@dataclass(frozen=True, slots=True)
class Progress:
    """Preparing revision `revision` is in `phase` ("check", "compile", "load", "warm"); `done` of `total` nodes.

    `node_id` is the node that is run now; a node's own progress bar (a sampler's steps) comes as `value` of `maximum`,
    and what it says of what it does as `message` ("building engine 3/5 (unet), about 4 min left").
    """

    revision: int
    phase: str
    done: int = 0
    total: int = 0
    node_id: str | None = None
    value: float = 0.0
    maximum: float = 0.0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Activated:
    """Revision `revision` makes the outputs from input frame `first_frame` of `lane` on."""

    revision: int
    lane: Lane
    first_frame: int


@dataclass(frozen=True, slots=True)
class RolledBack:
    """Revision `revision` failed on its first frame; `restored` runs again."""

    revision: int
    restored: int
    reason: str


@dataclass(frozen=True, slots=True)
class NodeFailed:
    """A node raised. Repeats of the same failure are reported once a second with their `count`."""

    node_id: str
    class_type: str
    message: str
    hint: str
    exception_type: str
    trace: str
    frame: int
    lane: Lane
    revision: int
    count: int = 1


@dataclass(frozen=True, slots=True)
class NodeBlocked:
    """A node was not run because one before it blocked it with a message; repeats are reported once a second."""

    node_id: str
    class_type: str
    message: str
    revision: int
    count: int = 1


@dataclass(frozen=True, slots=True)
class NodeMessage:
    """A node sent `data`, as JSON has it, to ComfyUI's editor under `name`; ten a second of each come through."""

    name: str
    data: Any
    node_id: str = ""


@dataclass(frozen=True, slots=True)
class EngineLost:
    """The engine process died (`reason`); it is being started again, and the last good workflow loaded into it."""

    reason: str


@dataclass(frozen=True, slots=True)
class EngineRestarted:
    """The engine process died (`reason`) and runs again with revision `revision` (0 = none was active)."""

    reason: str
    revision: int
    frames_lost: int


@dataclass(frozen=True, slots=True)
class PackBroken:
    """A node pack (or its class `key`) could not be loaded; the others are there."""

    pack: str
    message: str
    hint: str
    trace: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Stopped:
    """The run has ended; `error` says why if it was not asked for."""

    error: str = ""


Event = (
    Progress
    | Activated
    | RolledBack
    | NodeFailed
    | NodeBlocked
    | NodeMessage
    | EngineLost
    | EngineRestarted
    | PackBroken
    | Stopped
)

OnEvent = Callable[[Event], None]
