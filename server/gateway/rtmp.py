"""The gateway's RTMP port: OBS or FFmpeg sends a stream's pictures and sound, or starts a stream by its address."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from collections.abc import Mapping
from typing import Any

from comfystream.errors import ConfigError, WorkflowError
from comfystream.frames import AudioFrame, VideoFrame

from ..library import BUNDLED, Library
from ..rtmp.port import Arrival, RtmpPort
from .gateway import Gateway, NoSuchStream
from .job import DEFAULT_TIMEOUT_S, Job
from .rtmp_edge import RtmpEdge
from .stream import GatewayStream

__all__ = ["GatewayRtmp"]

_log = logging.getLogger(__name__)
APPS = ("", "live")
NUMBERS = ("width", "height", "max_framerate")


class _Place:
    """A publisher's place at its connection."""

    def __init__(self, edge: RtmpEdge) -> None:
        self._edge = edge
        self.name = edge.name

    def submit(self, frame: VideoFrame | AudioFrame) -> None:
        """A frame has come."""
        self._edge.submit(frame)

    def leave(self) -> None:
        """The publisher has gone."""
        self._edge.gone()


class GatewayRtmp(RtmpPort):
    """The port. Addresses are those of go-livepeer, `rtmp://HOST:PORT/ID`; "live" may stand before the id.

    Args:
        gateway: has the streams.
        keys: of clients: whoever starts a stream by its address has to name one.
    """

    def __init__(self, gateway: Gateway, keys: tuple[str, ...] = ()) -> None:
        super().__init__(self._place)
        self._gateway = gateway
        self._keys = keys
        self.base = ""

    async def _place(self, arrival: Arrival) -> _Place:
        stream = await self._stream(arrival)
        edge = stream.publish_rtmp(arrival.send_away)
        _log.info("stream %s: an rtmp publisher has come", stream.id)
        return _Place(edge)

    async def _stream(self, arrival: Arrival) -> GatewayStream:
        name = _name(arrival)
        try:
            return self._gateway.find(name)
        except NoSuchStream:
            if "capability" not in arrival.query:
                raise
        given = arrival.query.get("key", "")
        if self._keys and not any(hmac.compare_digest(given.encode(), key.encode()) for key in self._keys):
            raise ConfigError("a key is needed to start a stream", code="no_key", hint="add &key=KEY to the address")
        params = await asyncio.to_thread(_params, arrival.query)
        job = Job(arrival.query["capability"], DEFAULT_TIMEOUT_S, "", {}, {})
        return await self._gateway.start(job, {"stream_id": name, "params": params}, self.base)


def _name(arrival: Arrival) -> str:
    """Of the stream: the last part of the address, wherever programs cut it into application and key.

    Raises:
        ConfigError: there is none.
    """
    first, _, last = f"{arrival.app}/{arrival.name}".strip("/").rpartition("/")
    if not last or (first not in APPS):
        hint = "the address is that of rtmp_url, or rtmp://HOST:PORT/live/NAME?capability=CAPABILITY to start a stream"
        raise ConfigError("the address names no stream", code="bad_name", hint=hint)
    return last


def _params(query: Mapping[str, str]) -> dict[str, Any]:
    """Of a stream that is started by its address.

    Raises:
        WorkflowError: there is no such workflow.
        ConfigError: a value is no number.
    """
    params: dict[str, Any] = {}
    for name in NUMBERS:
        if name in query:
            if not query[name].isdigit():
                raise ConfigError(f"{name}: {query[name][:40]!r} is no number", code="bad_params")
            params[name] = int(query[name])
    workflow = query.get("workflow")
    if workflow:
        known = {one.name for one in Library().listed()}
        file = BUNDLED / f"{workflow}.json"
        if workflow not in known or not file.is_file():
            raise WorkflowError(f'there is no workflow "{workflow[:80]}"', code="unknown_workflow")
        params["prompts"] = json.loads(file.read_text("utf-8"))
    return params
