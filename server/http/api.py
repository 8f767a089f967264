"""`/api/v1`: workflows, node classes, sessions and their control, by REST and WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import asdict
from typing import Any

from aiohttp import WSMsgType, web

from comfystream.session.live import LiveSession
from comfystream.workflow.api_format import to_api

from ..control.messages import Describe, Notice, Reply, request_adapter
from ..control.notices import figures, notice, notice_schema, stats_notice
from ..parts import Parts
from .errors import json_body

__all__ = ["routes"]

STATS_S = 1.0
MOST_AT_ONCE = 16  # requests of one socket; more wait
PING_S = 20.0
_STATUS = {
    "stale_revision": 409,
    "wrong_state": 409,
    "no_workflow": 409,
    "unknown_workflow": 404,
    "no_such_sink": 404,
    "bad_message": 400,
    "bad_size": 400,
    "unknown_preset": 404,
    "preset_does_not_fit": 409,
    "too_many_presets": 503,
    "not_json": 400,
    "too_many_edits": 503,
    "session_ended": 410,
    "superseded": 409,
    "cancelled": 409,
    "nothing_to_cancel": 409,
    "engine_died": 503,
    "defect": 500,
}


def routes(parts: Parts) -> list[web.RouteDef]:
    """All of them."""
    api = _Api(parts)
    return [
        web.get("/api/v1/config", api.config),
        web.get("/api/v1/workflows", api.workflows),
        web.get("/api/v1/workflows/{name}", api.workflow),
        web.get("/api/v1/object_info", api.object_info),
        web.get("/api/v1/protocol", api.protocol),
        web.get("/api/v1/sessions", api.sessions),
        web.get("/api/v1/sessions/{id}", api.session),
        web.delete("/api/v1/sessions/{id}", api.end),
        web.get("/api/v1/sessions/{id}/stats", api.stats),
        web.get("/api/v1/sessions/{id}/control", api.socket),
        web.post("/api/v1/sessions/{id}/control", api.control),
    ]


class _Api:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def _session(self, request: web.Request) -> LiveSession:
        return self._parts.sessions.get(request.match_info["id"])

    async def config(self, request: web.Request) -> web.Response:
        """What a page needs to connect."""
        settings = self._parts.settings
        allowed = {"recording": bool(settings.recording_folder), "push_urls": list(settings.allowed_push_urls)}
        return web.json_response({"ice_servers": self._parts.ice.for_browser(), "protocol": 1, **allowed})

    async def workflows(self, request: web.Request) -> web.Response:
        """The server's workflows."""
        return web.json_response([asdict(one) for one in await asyncio.to_thread(self._parts.library.listed)])

    async def workflow(self, request: web.Request) -> web.Response:
        """One of them in API format."""
        name = request.match_info["name"]
        workflow = self._parts.library.read(name, await self._parts.host.known())
        return web.json_response({"name": name, "workflow": to_api(workflow)})

    async def object_info(self, request: web.Request) -> web.Response:
        """The node classes, in ComfyUI's shape."""
        await self._parts.host.get()
        return web.json_response(dict(self._parts.host.object_info))

    async def protocol(self, request: web.Request) -> web.Response:
        """JSON Schema of the control protocol."""
        schemas = {
            "request": request_adapter.json_schema(),
            "reply": Reply.model_json_schema(mode="serialization"),
            "event": notice_schema(),
        }
        return web.json_response(schemas)

    async def sessions(self, request: web.Request) -> web.Response:
        """All sessions, briefly."""
        every = [
            {"session": s.id, "state": str(s.state), "revision": s.revision, "viewers": s.viewers}
            for s in self._parts.sessions
        ]
        return web.json_response(every)

    async def session(self, request: web.Request) -> web.Response:
        """One session with its workflow and parameters."""
        info = await self._parts.control.describe(self._session(request))
        return web.json_response(info.model_dump())

    async def end(self, request: web.Request) -> web.Response:
        """End a session."""
        await self._parts.sessions.end(self._session(request).id, "DELETE")
        return web.Response(status=204)

    async def stats(self, request: web.Request) -> web.Response:
        """A session's figures."""
        return web.json_response(figures(await self._session(request).stats()))

    async def control(self, request: web.Request) -> web.Response:
        """One message of the control protocol; its reply is the body, its error code the status."""
        session = self._session(request)
        document: Any = await json_body(request)
        reply = await self._parts.control.handle_json(session, document, "REST")
        status = 200 if reply.error is None else _STATUS.get(reply.error.code, 422)
        return web.json_response(reply.model_dump(), status=status)

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        """The control protocol over a WebSocket: replies, events, figures once a second."""
        session = self._session(request)
        socket = web.WebSocketResponse(heartbeat=PING_S, max_msg_size=self._parts.settings.max_body_mb << 20)
        await socket.prepare(request)
        talking = [
            asyncio.create_task(self._tell_events(session, socket), name=f"socket-events-{session.id}"),
            asyncio.create_task(self._tell_figures(session, socket), name=f"socket-figures-{session.id}"),
        ]
        handling: set[asyncio.Task[None]] = set()
        try:
            await self._send(socket, await self._parts.control.handle(session, Describe(type="describe"), "WebSocket"))
            async for message in socket:
                if message.type is not WSMsgType.TEXT:
                    continue
                if len(handling) >= MOST_AT_ONCE:
                    await asyncio.wait(handling, return_when=asyncio.FIRST_COMPLETED)
                task = asyncio.create_task(self._answer(session, socket, message.data), name=f"socket-{session.id}")
                handling.add(task)  # one that takes long does not hold back what cancels it
                task.add_done_callback(handling.discard)
        finally:
            ending = [*talking, *handling]
            for one in ending:
                one.cancel()
            await asyncio.wait(ending)
        return socket

    async def _answer(self, session: LiveSession, socket: web.WebSocketResponse, text: str) -> None:
        await self._send(socket, await self._parts.control.handle_text(session, text, "WebSocket"))

    async def _send(self, socket: web.WebSocketResponse, message: Reply | Notice) -> None:
        with contextlib.suppress(ConnectionError):  # it closes; the loop over its messages ends then
            await socket.send_str(message.model_dump_json())

    async def _tell_events(self, session: LiveSession, socket: web.WebSocketResponse) -> None:
        async with session.events() as events:
            async for event in events:
                if (said := notice(event)) is not None:
                    await self._send(socket, said)
        await socket.close()

    async def _tell_figures(self, session: LiveSession, socket: web.WebSocketResponse) -> None:
        while True:
            await asyncio.sleep(STATS_S)
            await self._send(socket, stats_notice(await session.stats()))
