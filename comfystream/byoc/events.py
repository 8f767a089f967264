"""What a stream tells the gateway: events as they happen, a heartbeat and a status so often that nobody gives it up."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

from comfystream.byoc.backend import PipeReport
from comfystream.byoc.figures import Figures
from comfystream.byoc.messages import Channels

__all__ = ["BEAT_S", "EVENTS", "event", "heartbeat", "now_ms", "params_hash", "status"]

EVENTS, HEARTBEAT, STATUS = "ai_stream_events", "stream_heartbeat", "ai_stream_status"
BEAT_S = 8.0  # a gateway gives a stream up after 30 s without any, and it is promised one every 10 s
MOST_PARAMS = 32_000


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def params_hash(params: Mapping[str, Any]) -> str:
    """Names a set of parameters."""
    return hashlib.md5(json.dumps(params, sort_keys=True).encode(), usedforsecurity=False).hexdigest()


def event(kind: str, queue: str = EVENTS, **more: Any) -> dict[str, Any]:
    """One event as it goes out."""
    return {"event": {"type": kind, "timestamp": now_ms(), **more}, "queue_event_type": queue}


def heartbeat(channels: Channels, figures: Figures) -> dict[str, Any]:
    """That the stream is alive, and how fast."""
    urls = {name.removesuffix("_url"): url or "" for name, url in channels.model_dump().items()}
    width, height = figures.size
    return event("heartbeat", HEARTBEAT, urls=urls, dimensions={"width": width, "height": height}, fps=figures.fps())


def status(pipeline: str, figures: Figures, report: PipeReport, params: Mapping[str, Any]) -> dict[str, Any]:
    """How the stream is; gateways keep the last one and show it to those who ask.

    Args:
        pipeline: name of the capability.
        figures: of the stream.
        report: of what does the work.
        params: in force; long ones are only named by their hash.
    """
    rates, state = figures.fps(), figures.state(report.state)
    is_short = len(json.dumps(params)) <= MOST_PARAMS
    return event(
        "status",
        STATUS,
        pipeline=pipeline,
        start_time=figures.started_ms,
        state=state,
        last_state_update_time=figures.state_since_ms,
        input_status={"last_input_time": figures.last_input_ms, "fps": rates["ingress_video_fps"]},
        inference_status={
            "last_output_time": figures.last_output_ms,
            "fps": rates["egress_video_fps"],
            "last_params_update_time": figures.last_params_ms,
            "last_params": dict(params) if is_short else None,
            "last_params_hash": params_hash(params),
            "last_error_time": report.last_error_ms or None,
            "last_error": report.last_error or None,
            "last_restart_time": report.last_restart_ms or None,
            "last_restart_logs": None,
            "restart_count": report.restarts,
            **report.details,
        },
        last_status_timestamp=figures.take_status_ms(),
    )
