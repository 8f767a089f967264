"""What a session says, as messages of the control protocol."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, Field, TypeAdapter, create_model

from comfystream.engine.events import (
    Activated,
    EngineLost,
    EngineRestarted,
    NodeBlocked,
    NodeFailed,
    NodeMessage,
    PackBroken,
    Progress,
    RolledBack,
)
from comfystream.frames import TextCue
from comfystream.session.live_figures import LiveStats
from comfystream.session.live_sink_state import SinkChanged
from comfystream.session.live_state import (
    PrepareFailed,
    PresetsChanged,
    RevisionChanged,
    SessionEvent,
    ShuttingDown,
    SizeChanged,
    SourceChanged,
    StateChanged,
)

from .events import TextData, data_model
from .figures import Stats, stats_of
from .messages import Notice
from .said import Said

__all__ = ["data_models", "figures", "notice", "notice_schema", "notice_union", "stats_notice"]

_NAMES: dict[type, str] = {
    StateChanged: "state",
    SourceChanged: "source",
    RevisionChanged: "revision",
    PrepareFailed: "prepare_failed",
    SinkChanged: "sink",
    SizeChanged: "size",
    PresetsChanged: "presets",
    Progress: "progress",
    Activated: "activated",
    RolledBack: "rolled_back",
    NodeFailed: "node_failed",
    NodeBlocked: "node_blocked",
    NodeMessage: "node_message",
    EngineLost: "engine_lost",
    EngineRestarted: "engine_restarted",
    PackBroken: "pack_broken",
    ShuttingDown: "shutdown",
}


def notice(event: SessionEvent) -> Notice | None:
    """The message for an event; None for what controllers hear in another form."""
    if isinstance(event, TextCue):
        at_s = float(event.pts * event.time_base)
        return Notice(event="text", data={"text": event.text, "node": event.node_id, "frame": event.id, "at_s": at_s})
    name = _NAMES.get(type(event))
    if name is None:
        return None
    data: dict[str, Any] = asdict(event)
    data.pop("trace", None)  # paths and code of this machine are for the log
    return Notice(event=name, revision=int(data.pop("revision", 0)), data=data)


def stats_notice(stats: LiveStats, connection: dict[str, Any] | None = None) -> Notice:
    """The figures that viewers get once a second."""
    return Notice(event="stats", revision=stats.revision, data=figures(stats, connection))


def figures(stats: LiveStats, connection: dict[str, Any] | None = None) -> dict[str, Any]:
    """A session's figures as JSON."""
    return stats_of(stats, connection).model_dump(exclude_none=True)


def data_models() -> dict[str, type[BaseModel]]:
    """The model of what each event carries, by its name."""
    models = {name: data_model(kind) for kind, name in _NAMES.items()}
    return {**models, "text": TextData, "stats": Stats}


def notice_schema() -> dict[str, Any]:
    """JSON Schema of all notices: one object per event, told apart by `event`."""
    return TypeAdapter(notice_union()).json_schema(mode="serialization")


def notice_union() -> Any:
    """The type of all notices."""
    kinds: Any = Union[tuple(_notice_model(name, model) for name, model in data_models().items())]  # noqa: UP007
    return Annotated[kinds, Field(discriminator="event")]


def _notice_model(event: str, data: type[BaseModel]) -> type[BaseModel]:
    fields: dict[str, Any] = {
        "v": (Literal[1], ...),
        "type": (Literal["event"], ...),
        "event": (Literal[event], ...),
        "revision": (int, ...),
        "data": (data, ...),
    }
    name = "".join(part.title() for part in event.split("_"))
    return create_model(f"{name}Notice", __base__=Said, **fields)
