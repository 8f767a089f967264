"""The sessions that a live runner serves: a stream each, on channels that the orchestrator makes when it is asked."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from comfystream.byoc.backend import Backend, Modalities
from comfystream.byoc.live_session import Channel, SessionAccess
from comfystream.byoc.messages import StartBody, StreamParams
from comfystream.byoc.stream import Stream
from comfystream.byoc.worker import Worker
from comfystream.errors import BusyError, ComfyStreamError, ConfigError

__all__ = ["ANALYZE", "STREAM", "LiveSession", "LiveSessions", "NoSuchLiveSession"]

_log = logging.getLogger(__name__)
ANALYZE, STREAM = "analyze", "stream"
IN, OUT, TEXT = "in", "out", "text"
MIMES = {IN: "video/mp2t", OUT: "video/mp2t", TEXT: "application/jsonl"}
KINDS = ("video", "audio", "text")


class NoSuchLiveSession(ComfyStreamError, LookupError):
    """Nothing runs for that session."""

    default_code = "no_session"


@dataclass(slots=True)
class LiveSession:
    """What runs for one.

    Attributes:
        kind: "analyze" (pictures in, texts out) or "stream".
        access: to the orchestrator.
        channels: by name: "in", "out", "text".
        modalities: of its workflow.
        stream: does the work.
        ending: waits for the end of the stream and has the channels closed.
    """

    kind: str
    access: SessionAccess
    channels: dict[str, Channel]
    modalities: Modalities
    stream: Stream
    ending: asyncio.Task[None] | None = None

    def told(self) -> dict[str, Any]:
        """As clients are told: where to send, where to look, and what goes each way."""
        urls = {name: channel.url for name, channel in self.channels.items()}
        takes, gives = self.modalities.takes, self.modalities.gives
        flows = {kind: {"input": kind in takes, "output": kind in gives} for kind in KINDS}
        return {"session": self.access.id, "kind": self.kind, **urls, "modalities": flows}


class LiveSessions:
    """All of a worker.

    Args:
        worker: has the streams.
        backend: knows what a workflow takes and gives.
    """

    def __init__(self, worker: Worker, backend: Backend) -> None:
        self._worker = worker
        self._backend = backend
        self._sessions: dict[str, LiveSession] = {}
        self._starting: dict[str, asyncio.Lock] = {}

    def get(self, id: str) -> LiveSession:
        """What runs for a session.

        Raises:
            NoSuchLiveSession: nothing.
        """
        session = self._sessions.get(id)
        if session is None or session.stream.is_over:
            raise NoSuchLiveSession("no active session", hint="start one with /start_stream or /analyze")
        return session

    async def start(self, kind: str, access: SessionAccess, params: StreamParams, capability: str) -> LiveSession:
        """Start what a session is for; a second start in the same session is the same one.

        Raises:
            BusyError: all places are taken.
            ConfigError: the workflow does not do what is asked.
            ComfyStreamError: it cannot run, or the orchestrator makes no channels.
        """
        lock = self._starting.setdefault(access.id, asyncio.Lock())
        try:
            async with lock:
                known = self._sessions.get(access.id)
                if known is not None and not known.stream.is_over:
                    return known
                if known is not None and known.ending is not None:
                    await asyncio.wait([known.ending])  # its channels have the names of the new ones
                return await self._start(kind, access, params, capability)
        finally:
            if not lock.locked():
                self._starting.pop(access.id, None)

    async def _start(self, kind: str, access: SessionAccess, params: StreamParams, capability: str) -> LiveSession:
        if len(self._sessions) >= self._worker.options.capacity:
            raise BusyError("runner already has an active session", code="in_use")
        modalities = await self._backend.modalities(params, capability)
        names = _channels(kind, modalities)
        channels = await access.create({name: MIMES[name] for name in names})
        try:
            stream = await self._worker.start(_body(access.id, channels, params), capability)
        except BaseException:
            with contextlib.suppress(ComfyStreamError):
                await access.delete(names)
            raise
        session = LiveSession(kind, access, channels, modalities, stream)
        self._sessions[access.id] = session
        session.ending = asyncio.create_task(self._tend(session), name=f"live-session-{access.id}")
        return session

    async def _tend(self, session: LiveSession) -> None:
        """When its stream has ended the client learns it by its channels, and may start again in the same session."""
        try:
            await self._worker.until_over(session.stream)
            with contextlib.suppress(ComfyStreamError):  # the orchestrator may have closed them itself
                await session.access.delete(list(session.channels))
        finally:
            if self._sessions.get(session.access.id) is session:
                del self._sessions[session.access.id]

    async def update(self, id: str, document: dict[str, Any], params: StreamParams, capability: str) -> LiveSession:
        """Change parameters; another workflow has to do with the channels that there are.

        Raises:
            NoSuchLiveSession: nothing runs for it.
            ComfyStreamError: they cannot be used; it goes on as it was.
        """
        session = self.get(id)
        if any(name in document for name in ("prompts", "prompt")):
            modalities = await self._backend.modalities(params, capability)
            lacking = sorted(set(_channels(session.kind, modalities)) - set(session.channels))
            if lacking:
                words = f"the workflow needs a channel that this session has not: {', '.join(lacking)}"
                raise ConfigError(words, code="no_channel", hint="stop the session and start it with this workflow")
        await self._worker.update(id, document)
        if any(name in document for name in ("prompts", "prompt")):
            session.modalities = modalities
        return session

    async def close(self) -> None:
        """Wait for what ends; the worker has ended the streams before. Bounded in time."""
        ending = [one.ending for one in self._sessions.values() if one.ending is not None]
        if ending:
            _, late = await asyncio.wait(ending, timeout=3.0)
            for task in late:
                task.cancel()


def _channels(kind: str, modalities: Modalities) -> Sequence[str]:
    """Which channels there have to be.

    Raises:
        ConfigError: the workflow is not for that.
    """
    takes, gives = modalities.takes, modalities.gives
    if kind == ANALYZE:
        if "video" not in takes:
            raise ConfigError("analyze requires a workflow with video input", code="wrong_workflow")
        if "text" not in gives:
            raise ConfigError("analyze requires a workflow with text output", code="wrong_workflow")
        return (IN, TEXT)
    if not takes and not gives & {"video", "audio"}:
        raise ConfigError("start_stream requires a workflow with media I/O", code="wrong_workflow")
    wanted = {IN: bool(takes), OUT: bool(gives & {"video", "audio"}), TEXT: "text" in gives}
    return [name for name, is_wanted in wanted.items() if is_wanted]


def _body(id: str, channels: dict[str, Channel], params: StreamParams) -> StartBody:
    fields = {IN: "subscribe_url", OUT: "publish_url", TEXT: "data_url"}
    urls = {fields[name]: channel.ours for name, channel in channels.items()}
    given = params.model_dump(exclude_unset=True)
    return StartBody.model_validate({"gateway_request_id": id, **urls, "params": given}).as_objects()
