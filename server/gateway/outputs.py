"""Where a stream's pictures and sound are sent by RTMP, beside its viewers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from comfystream.frames import AudioFrame, Frame, TextCue, VideoFrame
from comfystream.media.push_target import push_command
from comfystream.session.live_readers import Fanout
from comfystream.session.live_sink_state import PushSink, SinkChanged, SinkRules
from comfystream.session.live_sinks import Sinks

from ..http.errors import BadRequest
from .feed import Feed

__all__ = ["ANY_RTMP", "FIELD", "Outputs", "wanted_output"]

FIELD = "rtmp_output"
ANY_RTMP = ("rtmp://*", "rtmps://*")
KBPS = 2500
EVENT = "rtmp_output"
ROOM = {VideoFrame: 2, AudioFrame: 50, TextCue: 1}
MOST_CHANGES = 64


def wanted_output(document: dict[str, Any], rules: SinkRules, *, gives_pictures: bool) -> tuple[PushSink, ...]:
    """The receiver that a start names in its `rtmp_output`; none when that is missing or empty.

    Args:
        document: the body of the start.
        rules: which addresses may be sent to.
        gives_pictures: whether the stream has any.

    Raises:
        BadRequest: it cannot be sent to.
        ConfigError: it is no address, or none that the operator allows.
        MediaError: what sends it is not installed.
    """
    url = document.get(FIELD) or ""
    if not isinstance(url, str):
        raise BadRequest("the address of an RTMP receiver is needed, as text", field=FIELD, code="bad_url")
    if not url:
        return ()
    if not gives_pictures:
        words = "this stream gives no pictures that could be sent"
        raise BadRequest(words, field=FIELD, code="no_egress", hint="enable_video_egress")
    sink = rules.push(url, KBPS)
    push_command(url)  # before a worker is troubled
    return (sink,)


class Outputs:
    """The receivers of one stream. One that is away is tried again; the stream goes on meanwhile.

    Args:
        stream: its id, for the log.
        wanted: the receivers.
        feed: is told of each change of theirs, without what is secret in their addresses.
    """

    def __init__(self, stream: str, wanted: Sequence[PushSink], feed: Feed) -> None:
        self._wanted = tuple(wanted)
        self._feed = feed
        self._frames: Fanout[Frame] = Fanout(2, ROOM)
        self._changes: asyncio.Queue[SinkChanged | None] = asyncio.Queue(MOST_CHANGES)
        self._sinks = Sinks(stream, self._frames.subscribe, lambda: frozenset(("video",)), self._hear)
        self._telling: asyncio.Task[None] | None = None

    @property
    def urls(self) -> str:
        """Addresses as they were given, for whoever gave them."""
        return ",".join(sink.url for sink in self._wanted)

    @property
    def are_running(self) -> bool:
        """Whether anything is, or will be, sent."""
        return self._sinks.are_running

    def begin(self) -> None:
        """Connect."""
        if self._wanted:
            self._telling = asyncio.create_task(self._tell(), name="gateway-outputs")
        for sink in self._wanted:
            self._sinks.add(sink)

    def offer(self, frame: VideoFrame | AudioFrame) -> None:
        """A frame of the stream; never waits."""
        self._frames.put(frame)

    def stats(self) -> list[dict[str, Any]]:
        """How each is; addresses without keys."""
        return [asdict(one) for one in self._sinks.stats()]

    async def close(self) -> None:
        """Send the rest and hang up, in bounded time. Idempotent."""
        await self._sinks.close()
        telling, self._telling = self._telling, None
        if telling is not None:
            await self._changes.put(None)
            await telling

    def _hear(self, changed: SinkChanged) -> None:
        if self._changes.full():
            self._changes.get_nowait()
        self._changes.put_nowait(changed)

    async def _tell(self) -> None:
        while (changed := await self._changes.get()) is not None:
            said = {"target": changed.target, "state": changed.state.value, "reason": changed.reason}
            await self._feed.tell(EVENT, said)
