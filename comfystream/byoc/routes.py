"""The REST side of a worker: every path that orchestrators and apps of the field call, under every prefix they use."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

import comfystream
from comfystream.byoc.hardware import gpu_info, gpu_stats
from comfystream.byoc.messages import Health, Said, StartBody, Started, start_body
from comfystream.byoc.worker import NoSuchStream, NotReady, Worker
from comfystream.errors import BusyError, ComfyStreamError, ConfigError, EngineDied

__all__ = ["Identity", "add_routes", "guard"]

_log = logging.getLogger(__name__)
PREFIXES = ("", "/api")
OPEN = ("/health", "/healthz")
STREAM_ID = "X-Stream-Id"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Identity:
    """How the worker calls itself.

    Attributes:
        pipeline: "byoc" unless somebody wants another.
        capabilities: the names that it serves; the first is the one for callers that name none.
        app_version: of the app.
    """

    pipeline: str = "byoc"
    capabilities: tuple[str, ...] = ("comfystream",)
    app_version: str = "0.0.1"


def guard(token: str, admits: Callable[[web.Request], Awaitable[bool]] | None = None) -> Any:
    """A middleware: errors become JSON, a token is asked for if there is one, and pages of other sites are refused.

    Args:
        token: empty for none. It is asked for on all paths but those of health, and a wrong one is the only reason for
            401, since orchestrators take a worker that says so off their list.
        admits: asked about requests without it: those of a live runner's sessions bring none.
    """

    async def is_known(request: web.Request) -> bool:
        if not token or request.path in OPEN or _has(token, request):
            return True
        return admits is not None and await admits(request)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get("Origin", "")
        if origin and urlsplit(origin).netloc.lower() != request.host.lower():
            return _reply(403, Said(status="error", message="pages of other sites may not call a worker"))
        if not await is_known(request):
            return _reply(401, Said(status="error", message="a bearer token is needed"))
        try:
            return await handler(request)
        except web.HTTPException as error:
            if error.status < 400:
                raise
            headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
            return _reply(error.status, Said(status="error", message=error.reason), headers)
        except Exception:  # noqa: BLE001 - request handler: logged once, the caller gets a plain 500
            _log.exception("%s %s met a defect", request.method, request.path)
            return _reply(500, Said(status="error", message="this is a defect; see the worker's log"))

    return check


def _has(token: str, request: web.Request) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())


def add_routes(app: web.Application, worker: Worker, identity: Identity) -> None:
    """All of them; each capability has its own prefix, too, by which an orchestrator says which one it means."""
    rest = _Rest(worker, identity)
    named = [f"/capability/{{capability}}{prefix}" for prefix in PREFIXES]
    for prefix in [*PREFIXES, *named]:
        app.router.add_post(f"{prefix}/stream/start", rest.start)
        app.router.add_post(f"{prefix}/live-video-to-video", rest.start)
        app.router.add_post(f"{prefix}/stream/params", rest.params)
        app.router.add_post(f"{prefix}/stream/stop", rest.stop)
        app.router.add_get(f"{prefix}/stream/status", rest.status)
        app.router.add_get(f"{prefix}/health", rest.health)
        app.router.add_get(f"{prefix}/version", rest.version)
        app.router.add_get(f"{prefix}/app-version", rest.app_version)
        app.router.add_get(f"{prefix}/hardware/info", rest.hardware_info)
        app.router.add_get(f"{prefix}/hardware/stats", rest.hardware_stats)


class _Rest:
    def __init__(self, worker: Worker, identity: Identity) -> None:
        self._worker = worker
        self._identity = identity

    # --- streams

    async def start(self, request: web.Request) -> web.Response:
        """Start a stream. Nothing is touched before the request is known to be good."""
        try:
            document = await _json(request)
            body = start_body(_with_id(document) if request.path.endswith("/live-video-to-video") else document)
            capability = self._capability(request, body)
        except ConfigError as error:
            return self._refusal(400, f"Error starting stream: {error}")
        try:
            await self._worker.start(body, capability)
        except NotReady as error:
            return self._refusal(503, error.message)
        except BusyError as error:
            return self._refusal(503, error.message)
        except ComfyStreamError as error:
            return self._refusal(503 if isinstance(error, EngineDied) else 400, f"Error starting stream: {error}")
        said = Started(
            status="success",
            message="Stream started successfully",
            request_id=body.gateway_request_id,
            current_state=self._worker.state_body(),
        )
        return _reply(200, said)

    async def params(self, request: web.Request) -> web.Response:
        """Change a stream's parameters."""
        try:
            document = await _json(request)
            await self._worker.update(request.headers.get(STREAM_ID), document)
        except NoSuchStream as error:
            return _reply(404, Said(status="error", message=str(error)))
        except BusyError as error:
            return _reply(503, Said(status="error", message=str(error)))
        except ComfyStreamError as error:
            words = str(error) if error.code == "no_stream" else f"Parameter update failed: {error}"
            return _reply(503 if isinstance(error, EngineDied) else 400, Said(status="error", message=words))
        return _reply(200, Said(status="success", message="Parameters updated successfully"))

    async def stop(self, request: web.Request) -> web.Response:
        """Stop a stream. Whatever the body says; a stream that is not there is stopped already."""
        stopping = asyncio.create_task(self._worker.stop(request.headers.get(STREAM_ID)), name="stop")
        try:
            was_there = await asyncio.shield(stopping)
        except ConfigError as error:
            return _reply(400, Said(status="error", message=str(error)))
        message = "Stream stopped successfully" if was_there else "No active stream to stop"
        return _reply(200, Said(status="success", message=message))

    async def status(self, request: web.Request) -> web.Response:
        """How the worker and one of its streams are."""
        body = self._worker.state_body().model_dump()
        try:
            stream = self._worker.find(request.headers.get(STREAM_ID) or request.query.get("stream_id"))
        except ConfigError:
            stream = self._worker.streams[-1]
        except NoSuchStream as error:
            return _reply(404, Said(status="error", message=str(error)))
        body["client_active"] = stream is not None
        if stream is not None:
            urls = {name: url for name, url in stream.channels.model_dump().items() if url and name in _SHOWN}
            body["client_running"] = self._worker.is_running(stream)
            body["fps"] = stream.figures.fps()
            body["lost"] = await stream.lost()
            body["current_params"] = {**urls, "gateway_request_id": stream.id}
        return web.json_response(body)

    def _capability(self, request: web.Request, body: StartBody) -> str:
        """Which capability is meant: that of the path, or the model of an ai-runner call, or the first."""
        known = self._identity.capabilities
        name = request.match_info.get("capability")
        if name is None:
            return body.model_id if body.model_id in known else known[0]
        if name not in known:
            raise ConfigError(f'there is no capability "{name[:80]}"', code="unknown_capability")
        return name

    def _refusal(self, status: int, message: str) -> web.Response:
        return _reply(status, Said(status="error", message=message, current_state=self._worker.state_body()))

    # --- the worker

    def _name(self, request: web.Request) -> dict[str, str]:
        name = request.match_info.get("capability", self._identity.capabilities[0])
        return {"pipeline": self._identity.pipeline, "model_id": name}

    async def health(self, request: web.Request) -> web.Response:
        """200 in every state."""
        return _reply(200, Health(status=self._worker.state_body().status))

    async def version(self, request: web.Request) -> web.Response:
        """Of ComfyStream."""
        return web.json_response({**self._name(request), "version": comfystream.__version__})

    async def app_version(self, request: web.Request) -> web.Response:
        """Of the app."""
        return web.json_response({"version": self._identity.app_version})

    async def hardware_info(self, request: web.Request) -> web.Response:
        """What GPUs there are."""
        return web.json_response({**self._name(request), "gpu_info": await asyncio.to_thread(gpu_info)})

    async def hardware_stats(self, request: web.Request) -> web.Response:
        """How busy they are."""
        return web.json_response({**self._name(request), "gpu_stats": await asyncio.to_thread(gpu_stats)})


_SHOWN = ("subscribe_url", "publish_url")


async def _json(request: web.Request) -> Any:
    """The body.

    Raises:
        ConfigError: it is no JSON.
    """
    kind = request.headers.get("Content-Type", "")
    if not kind.lower().startswith("application/json"):
        raise ConfigError(f"Unknown content type: {kind[:80]}", code="not_json")
    try:
        return json.loads(await request.read())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the body is not JSON: {error}"[:300], code="not_json") from None


def _with_id(document: Any) -> Any:
    """What ai-runner callers send: the id may stand under another name."""
    if isinstance(document, dict) and "gateway_request_id" not in document:
        given = document.get("stream_id") or document.get("manifest_id")
        return {**document, "gateway_request_id": given} if isinstance(given, str) else document
    return document


def _reply(status: int, body: Said | Health, headers: dict[str, str] | None = None) -> web.Response:
    absent = {"current_state"} if isinstance(body, Said) and body.current_state is None else set()
    return web.Response(
        text=body.model_dump_json(exclude=absent), status=status, content_type="application/json", headers=headers
    )
