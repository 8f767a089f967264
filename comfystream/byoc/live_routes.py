"""What clients of a live runner call through the orchestrator's proxy, as at the ComfyStream runner in the field."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from comfystream.byoc.live_runner import LiveRunner
from comfystream.byoc.live_session import ROUTE, SESSION_ID, SessionAccess
from comfystream.byoc.live_sessions import ANALYZE, STREAM, LiveSession, LiveSessions, NoSuchLiveSession
from comfystream.byoc.messages import StreamParams, stream_params
from comfystream.byoc.worker import NoSuchStream, NotReady, Worker
from comfystream.errors import BusyError, ComfyStreamError, ConfigError, EngineDied, NetworkError

__all__ = ["LiveRoutes"]

PREFIXES = ("", "/capability/{capability}")
UPDATED = ("width", "height")


class LiveRoutes:
    """Handlers.

    Args:
        worker: has the streams.
        sessions: of the orchestrator.
        capabilities: names; the first counts where the path names none.
        runners: registrations as live runner; empty where the operator has put the runner on the list.
        verify_tls: False accepts any certificate of the orchestrator.
    """

    def __init__(
        self,
        worker: Worker,
        sessions: LiveSessions,
        capabilities: Sequence[str],
        runners: Sequence[LiveRunner] = (),
        *,
        verify_tls: bool = True,
    ) -> None:
        self._worker = worker
        self._sessions = sessions
        self._capabilities = tuple(capabilities)
        self._runners = tuple(runners)
        self._verify_tls = verify_tls

    def add_to(self, app: web.Application) -> None:
        """Register all."""
        for prefix in PREFIXES:
            app.router.add_post(f"{prefix}/start_stream", self.start_stream)
            app.router.add_post(f"{prefix}/analyze", self.analyze)
            app.router.add_post(f"{prefix}/update_stream", self.update_stream)
            app.router.add_get(f"{prefix}/text", self.text)
            app.router.add_get(f"{prefix}/healthz", self.healthz)

    async def admits(self, request: web.Request) -> bool:
        """Whether a request comes from the proxy of an orchestrator at which we are registered: it shows no token."""
        id, route = request.headers.get(SESSION_ID, ""), request.headers.get(ROUTE, "")
        for runner in self._runners:
            if id and runner.runner_id == route and await runner.has_session(id):
                return True
        return False

    async def start_stream(self, request: web.Request) -> web.Response:
        """Pictures and sound in and out, texts beside."""
        return await self._start(request, STREAM)

    async def analyze(self, request: web.Request) -> web.Response:
        """Pictures in, texts out."""
        return await self._start(request, ANALYZE)

    async def _start(self, request: web.Request, kind: str) -> web.Response:
        try:
            access = self._access(request)
            _, params = await _params(request)
            session = await self._sessions.start(kind, access, params, self._capability(request))
        except ComfyStreamError as error:
            return _refused(error)
        return web.json_response(session.told())

    async def update_stream(self, request: web.Request) -> web.Response:
        """Another workflow, another size."""
        try:
            session = self._session(request)
            document, params = await _params(request)
            session = await self._sessions.update(session.access.id, document, params, self._capability(request))
        except ComfyStreamError as error:
            return _refused(error)
        return web.json_response(session.told())

    async def text(self, request: web.Request) -> web.Response:
        """What was said of late."""
        try:
            session = self._session(request)
        except ComfyStreamError as error:
            return _refused(error)
        return web.json_response({"session": session.access.id, "texts": session.stream.recent.all()})

    async def healthz(self, request: web.Request) -> web.Response:
        """200 when sessions can be served, 503 while not: orchestrators with a static list look at the status alone."""
        state = self._worker.state_body()
        status = 200 if state.pipeline_ready else 503
        body = {"ok": state.pipeline_ready, "app": self._capability_name(request), "status": state.status}
        return web.json_response(body, status=status)

    # --- what requests say

    def _access(self, request: web.Request) -> SessionAccess:
        bases = [runner.base_url for runner in self._runners]
        return SessionAccess.of(request.headers, bases, verify_tls=self._verify_tls)

    def _session(self, request: web.Request) -> LiveSession:
        return self._sessions.get(self._access(request).id)

    def _capability_name(self, request: web.Request) -> str:
        return request.match_info.get("capability", self._capabilities[0])

    def _capability(self, request: web.Request) -> str:
        name = self._capability_name(request)
        if name not in self._capabilities:
            raise ConfigError(f'there is no capability "{name[:80]}"', code="unknown_capability")
        return name


async def _params(request: web.Request) -> tuple[dict[str, Any], StreamParams]:
    """The body, as it came and checked. Sizes may be 0 or absent for none, as the app in the field has it.

    Raises:
        ConfigError: it cannot be used.
    """
    try:
        document = json.loads(await request.read() or b"{}")
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the body is not JSON: {error}"[:300], code="not_json") from None
    if not isinstance(document, dict):
        raise ConfigError("body must be a JSON object", code="not_json")
    document = {name: value for name, value in document.items() if name not in UPDATED or value}
    return document, stream_params(document)


def _refused(error: ComfyStreamError) -> web.Response:
    headers = {"Retry-After": "5"} if _status(error) == 503 else None
    body = {"status": "error", "code": error.code, "message": str(error)}
    return web.json_response(body, status=_status(error), headers=headers)


def _status(error: ComfyStreamError) -> int:
    match error:
        case NoSuchLiveSession() | NoSuchStream():
            return 404
        case NotReady() | EngineDied():
            return 503
        case BusyError():
            return 409 if error.code == "in_use" else 503
        case NetworkError():
            return 502
    return 400
