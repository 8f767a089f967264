"""What a session says, as messages of the control protocol."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from comfystream.engine.protocol import (
    Activated,
    EngineRestarted,
    NodeBlocked,
    NodeFailed,
    PackBroken,
    Progress,
    RolledBack,
)
from comfystream.frames import TextCue
from comfystream.session.live import LiveStats
from comfystream.session.live_state import (
    PresetsChanged,
    RevisionChanged,
    SessionEvent,
    SizeChanged,
    SourceChanged,
    StateChanged,
)

from .messages import Notice

__all__ = ["notice", "stats_notice"]

_NAMES: dict[type, str] = {
    StateChanged: "state",
    SourceChanged: "source",
    RevisionChanged: "revision",
    SizeChanged: "size",
    PresetsChanged: "presets",
    Progress: "progress",
    Activated: "activated",
    RolledBack: "rolled_back",
    NodeFailed: "node_failed",
    NodeBlocked: "node_blocked",
    EngineRestarted: "engine_restarted",
    PackBroken: "pack_broken",
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
    engine = stats.engine
    data: dict[str, Any] = {
        "state": str(stats.state),
        "fps_in": stats.input.fps,
        "fps_out": stats.output.fps,
        "frames_in": stats.frames_in,
        "frames_out": stats.frames_out,
        "dropped": stats.dropped,
        "viewers": stats.viewers,
        "source": stats.source,
        "latency_ms": round(stats.latency_ms, 1),
    }
    if engine is not None:
        data["failed"] = engine.failed
        data["tick_ms"] = {str(lane): _spread(ticks[-120:]) for lane, ticks in engine.tick_ms.items()}
        data["nodes"] = [
            {"node": n.node_id, "class_type": n.class_type, "ms": round(n.total_ms / max(n.calls, 1), 2)}
            for n in engine.nodes
            if n.where != "static"
        ]
    if connection is not None:
        data["connection"] = connection
    return data


def _spread(ticks: tuple[float, ...]) -> dict[str, float]:
    ordered = sorted(ticks)
    return {
        "p50": round(ordered[len(ordered) // 2], 2),
        "p95": round(ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)], 2),
    }
