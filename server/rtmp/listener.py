"""The server's RTMP port: who publishes to rtmp://host:1935/live/NAME sends into the session of that name."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any

from comfystream.errors import ComfyStreamError, ConfigError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.session.live import LiveSession
from comfystream.session.live_claims import Claim
from comfystream.session.live_registry import NoSuchSession
from comfystream.workflow.model import Workflow

from ..http.guard import Guard, Role
from ..parts import Parts
from .port import Arrival, RtmpPort

__all__ = ["RtmpListener"]

_log = logging.getLogger(__name__)
APP = "live"


class _SessionPlace:
    """The place of a session's source."""

    def __init__(self, session: LiveSession, workflow: Workflow | None, arrival: Arrival) -> None:
        self.name = session.id
        self._session = session
        self._arrival = arrival
        session.attach()
        self._claim: Claim | None = session.claim_source("rtmp publisher")
        self._work: set[asyncio.Task[None]] = set()
        self._start(self._follow(session), "session")
        if workflow is not None:
            self._start(self._load(session, workflow), "workflow")
        _log.info("session %s: an rtmp publisher has come", session.id)

    def submit(self, frame: VideoFrame | AudioFrame) -> None:
        """A frame has come."""
        if self._claim is not None:
            self._claim.submit(frame)

    async def _load(self, session: LiveSession, workflow: Workflow) -> None:
        try:
            await session.set_workflow(workflow, who="rtmp publisher")
        except ComfyStreamError as error:
            _log.warning("session %s: the workflow of the rtmp publisher does not run: %s", session.id, error)

    async def _follow(self, session: LiveSession) -> None:
        """When the session ends, so does its publisher."""
        async with session.events() as events:
            async for _ in events:
                pass
        self._arrival.send_away("the session has ended")

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=f"rtmp-{self.name}-{name}")
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    def leave(self) -> None:
        """The publisher has gone."""
        claim, self._claim = self._claim, None
        for task in self._work:
            if task is not asyncio.current_task():
                task.cancel()
        if claim is not None:
            claim.release()
            _log.info("session %s: its rtmp publisher has gone", self.name)
            self._session.detach()


class RtmpListener(RtmpPort):
    """The port.

    Args:
        parts: of the server.
        guard: who may publish: the operator's token is asked for as HTTP asks for it.
    """

    def __init__(self, parts: Parts, guard: Guard) -> None:
        super().__init__(self._place)
        self._parts = parts
        self._guard = guard

    async def _place(self, arrival: Arrival) -> _SessionPlace:
        if self._guard.role_of(arrival.query.get("token", "")) is not Role.OPERATOR:
            raise ConfigError(
                "the token is wrong or missing", code="no_token", hint=f"rtmp://HOST:PORT/{APP}/NAME?token=TOKEN"
            )
        if arrival.app != APP:
            raise ConfigError(
                f'there is no application "{arrival.app[:40]}"', code="unknown_app", hint=f"it is called {APP}"
            )
        if not arrival.name:
            raise ConfigError("the stream has no name", code="bad_name", hint=f"rtmp://HOST:PORT/{APP}/NAME")
        session, workflow = await self._session(arrival.name, arrival.query.get("workflow", ""))
        return _SessionPlace(session, workflow, arrival)

    async def _session(self, name: str, workflow: str) -> tuple[LiveSession, Workflow | None]:
        """The session of that name, made if need be, and the workflow that a new one is to run.

        Raises:
            ConfigError, TooManySessions, WorkflowError: it cannot be made.
        """
        with contextlib.suppress(NoSuchSession):
            return self._parts.sessions.get(name), None
        wanted = self._parts.library.read(workflow, await self._parts.host.known()) if workflow else None
        with contextlib.suppress(NoSuchSession):  # meanwhile somebody else may have made it
            return self._parts.sessions.get(name), None
        session = await self._parts.sessions.create(self._parts.options, id=name)
        self._parts.metrics.watch(session)
        return session, wanted
