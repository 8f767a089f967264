"""The gateway's part: streams by name, from the client's start to its stop."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from comfystream.errors import BusyError, ConfigError, NetworkError
from comfystream.session.live_sink_state import SinkRules

from ..http.errors import BadRequest
from ..rtc.ice import IceSettings
from .job import Job, text_as_object
from .orchestrator import Orchestrator
from .outputs import wanted_output
from .peers import EdgePeer
from .stream import GatewayStream, StreamOptions

__all__ = ["Gateway", "NoSuchStream"]

NAME = re.compile(r"[\w.~ -]{1,128}")
MOST_ENDED = 100


class NoSuchStream(NetworkError):
    """There is none of that name, or it has ended."""

    default_code = "not_found"


class Gateway:
    """All streams.

    Args:
        orchestrator: has the workers.
        ice: how clients are reached.
        options: how streams are treated.
        most_streams: at once.
        push_urls: patterns of RTMP addresses that streams may be sent to (`push_target.is_allowed`).
    """

    def __init__(
        self,
        orchestrator: Orchestrator,
        ice: IceSettings,
        options: StreamOptions,
        most_streams: int = 16,
        push_urls: Sequence[str] = (),
    ) -> None:
        self.orchestrator = orchestrator
        self._push_urls = tuple(push_urls)
        self._ice, self._options, self._most = ice, options, most_streams
        self._streams: dict[str, GatewayStream] = {}
        self._ended: OrderedDict[str, str] = OrderedDict()

    @property
    def streams(self) -> list[GatewayStream]:
        """Those that are there."""
        return list(self._streams.values())

    async def start(self, job: Job, document: dict[str, Any], base: str) -> GatewayStream:
        """A new stream that a worker has taken.

        Args:
            job: what is asked for.
            document: the body of the request.
            base: where channels are reached from here.

        Raises:
            ComfyStreamError: the request cannot be used, or nobody takes it.
        """
        id = _name_of(document)
        params = text_as_object(document.get("params"), "params")
        outputs = wanted_output(document, SinkRules(None, self._push_urls), gives_pictures=job.wants.video_out)
        if id in self._streams:
            raise ConfigError(f'there is a stream "{id}" already', code="stream_exists", hint="stop it first")
        if len(self._streams) >= self._most:
            raise BusyError(f"{self._most} streams run, that is the limit", code="too_many_streams")
        stream = GatewayStream(
            id, job, params, base, self.orchestrator, self._ice, self._options, self._gone, outputs
        )
        stream.name = document.get("stream_name") or ""
        self._streams[id] = stream
        await stream.begin()
        return stream

    def get(self, id: str) -> GatewayStream:
        """The stream of that name.

        Raises:
            NoSuchStream: there is none; says why it ended, if that is known.
        """
        stream = self._streams.get(id)
        if stream is None:
            reason = self._ended.get(id)
            words = f"the stream has ended: {reason}" if reason else f'there is no stream "{id[:80]}"'
            raise NoSuchStream(words)
        return stream

    def find(self, name: str) -> GatewayStream:
        """The stream of that id, or the only one that a client gave that name.

        Raises:
            NoSuchStream: there is none, or several have the name.
        """
        named = [stream for stream in self._streams.values() if stream.name == name]
        return named[0] if len(named) == 1 and name not in self._streams else self.get(name)

    def _gone(self, stream: GatewayStream) -> None:
        if self._streams.get(stream.id) is stream:
            del self._streams[stream.id]
            self._ended[stream.id] = stream.reason
            while len(self._ended) > MOST_ENDED:
                self._ended.popitem(last=False)

    async def publish(self, stream: str, request: web.Request) -> EdgePeer:
        """For WHIP; raises what `get` and the stream raise."""
        found = self.get(stream)
        if not found.wants.video_in:
            raise ConfigError("this stream takes no pictures", code="no_ingress", hint="enable_video_ingress")
        return await found.publish(stream, request)

    async def watch(self, stream: str, request: web.Request) -> EdgePeer:
        """For WHEP; raises what `get` and the stream raise."""
        found = self.get(stream)
        if not found.wants.video_out:
            raise ConfigError("this stream gives no pictures", code="no_egress", hint="enable_video_egress")
        return await found.watch(stream, request)

    async def close(self) -> None:
        """All streams end."""
        await asyncio.gather(*(stream.end("the gateway ends") for stream in self.streams))


def _name_of(document: dict[str, Any]) -> str:
    """`stream_name-stream_id`, made up where it is not given."""
    name, id = document.get("stream_name") or "", document.get("stream_id") or ""
    for field, value in (("stream_name", name), ("stream_id", id)):
        if not isinstance(value, str) or (value and not NAME.fullmatch(value)):
            raise BadRequest("letters, digits, and . _ ~ - are what a name may have", field=field, code="bad_name")
        if value.endswith(("-out", "-control", "-events", "-data")):
            raise BadRequest(f'"{value}" ends like one of the channels of a stream', field=field, code="bad_name")
    id = id or secrets.token_hex(8)
    return f"{name}-{id}" if name else id
