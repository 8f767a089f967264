"""The routes in ComfyUI: start, stop, restart, status, settings, log, and the offer of the page to our own server."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout, web

from comfystream import bus
from comfystream.errors import ComfyStreamError, ConfigError

from .callers import Callers
from .settings import SettingsFile
from .supervisor import Supervisor
from .surroundings import Surroundings

__all__ = ["Routes"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
OFFER_S = 300.0  # a new workflow is loaded first, with its models
MOST_BYTES = 4 << 20
MOST_PICTURE_BYTES = 8 << 20
MOST_SIDE = 4096
LOG_LINES = 200
_SESSION = re.compile(r"[A-Za-z0-9_-]{1,100}")


class Routes:
    """Handlers.

    Args:
        root: the folder that ComfyUI loaded, whose name is the extension's.
        settings: of the user.
        supervisor: of the server process.
        comfyui: the ComfyUI around us.
        callers: who may call; new by default.
    """

    def __init__(
        self,
        root: Path,
        settings: SettingsFile,
        supervisor: Supervisor,
        *,
        comfyui: Surroundings | None = None,
        callers: Callers | None = None,
    ) -> None:
        self._root = root
        self._settings = settings
        self._supervisor = supervisor
        self._comfyui = comfyui
        self.callers = callers or Callers()

    def add_to(self, server: Any) -> None:
        """Register at ComfyUI's `PromptServer`, which serves each also below `/api`."""
        routes: web.RouteTableDef = server.routes
        routes.get("/comfystream/extension_info")(self._guarded(self._info, asks_for_token=True))
        for method, path, handler in (
            ("POST", "/comfystream/control", self._control),
            ("GET", "/comfystream/settings", self._get_settings),
            ("POST", "/comfystream/settings", self._set_settings),
            ("POST", "/comfystream/settings/configuration", self._configuration),
            ("GET", "/comfystream/log", self._log),
            ("GET", "/comfystream/config", self._config),
            ("POST", "/comfystream/offer", self._offer),
            ("POST", "/api/offer", self._offer),
            ("POST", "/comfystream/sessions/{session}/control", self._edit),
            ("POST", "/comfystream/last_picture", self._last_picture),
        ):
            routes.route(method, path)(self._guarded(handler))

    def _guarded(self, handler: Handler, *, asks_for_token: bool = False) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            refused = self.callers.refusal(request.headers, asks_for_token=asks_for_token)
            if refused is not None:
                return _no(*refused)
            try:
                answer = await handler(request)
            except ComfyStreamError as error:
                return _no(400, str(error))
            answer.headers["Cache-Control"] = "no-store"
            return answer

        return guarded

    async def _info(self, request: web.Request) -> web.Response:
        """What the extension needs first. Only ComfyUI's own page gets it."""
        name = self._root.name
        info = {"success": True, "extension_name": name, "static_route": f"/extensions/{name}", "ui_url": self._page()}
        return web.json_response({**info, "token": self.callers.token})

    def _page(self) -> str:
        address = self._supervisor.address
        return "" if address is None else f"{_url(address)}/#token={address[2]}"

    async def _control(self, request: web.Request) -> web.Response:
        body = await _object(request)
        action, given = body.get("action"), body.get("settings")
        if action not in ("status", "start", "stop", "restart"):
            return web.json_response({"error": "Invalid action"}, status=400)
        if given is not None:
            known = {key: given[key] for key in ("host", "port") if key in given} if isinstance(given, dict) else given
            await asyncio.to_thread(self._settings.update, _is_object(known, "settings"))
        try:
            if action in ("stop", "restart"):
                await asyncio.to_thread(self._supervisor.stop)
            if action in ("start", "restart"):
                await asyncio.to_thread(self._supervisor.start, self._settings.now, self._comfyui)
        except ConfigError as error:
            return web.json_response({"success": False, "error": str(error), "status": self._status()}, status=500)
        return web.json_response({"success": True, "status": self._status()})

    def _status(self) -> dict[str, Any]:
        return {**self._supervisor.status(), "ui_url": self._page(), "settings_trouble": self._settings.trouble}

    async def _get_settings(self, request: web.Request) -> web.Response:
        return web.json_response(self._settings.now.model_dump())

    async def _set_settings(self, request: web.Request) -> web.Response:
        changed = await asyncio.to_thread(self._settings.update, await _object(request))
        return web.json_response({"success": True, "settings": changed.model_dump()})

    async def _configuration(self, request: web.Request) -> web.Response:
        body = await _object(request)
        match body.get("action"):
            case "add":
                changed = self._settings.add(body.get("name"), body.get("host"), body.get("port"))
            case "remove":
                changed = self._settings.remove(body.get("index"))
            case "select":
                changed = self._settings.select(body.get("index"))
            case _:
                return web.json_response({"error": "Invalid action"}, status=400)
        return web.json_response({"success": True, "settings": changed.model_dump()})

    async def _log(self, request: web.Request) -> web.Response:
        return web.json_response({"lines": self._supervisor.lines(LOG_LINES)})

    async def _config(self, request: web.Request) -> web.Response:
        """What the page needs to connect: ICE servers."""
        return await self._ask("GET", "/api/v1/config", None)

    async def _offer(self, request: web.Request) -> web.Response:
        """The page's offer, to the server that was started here and to nothing else."""
        body = await _object(request)
        endpoint, address = body.get("endpoint"), self._supervisor.address
        if endpoint is not None and (address is None or str(endpoint).rstrip("/") not in _names(address)):
            raise ConfigError("offers go to the server that was started here, and to no other endpoint")
        told = {key: body[key] for key in ("prompts", "offer", "resolution", "session", "workflow") if key in body}
        return await self._ask("POST", "/offer", told)

    async def _edit(self, request: web.Request) -> web.Response:
        """A control message that is too large for a data channel."""
        session = request.match_info["session"]
        if not _SESSION.fullmatch(session):
            raise ConfigError("this is no session's id", code="bad_message")
        return await self._ask("POST", f"/api/v1/sessions/{session}/control", await _object(request))

    async def _ask(self, method: str, path: str, body: Any) -> web.Response:
        address = self._supervisor.address
        if address is None:
            return _no(503, "the server does not run; start it first")
        headers = {"Authorization": f"Bearer {address[2]}"}
        try:
            async with (
                ClientSession(timeout=ClientTimeout(total=OFFER_S)) as client,
                client.request(method, _url(address) + path, json=body, headers=headers) as answer,
            ):
                data = await answer.content.read(MOST_BYTES)
                return web.Response(status=answer.status, body=data, content_type=answer.content_type)
        except (ClientError, TimeoutError, OSError) as error:
            return _no(502, f"the server did not answer: {error or type(error).__name__}")

    async def _last_picture(self, request: web.Request) -> web.Response:
        """The newest live picture, for `LoadTensor` where a graph is run without a stream."""
        data = bytearray()
        async for chunk in request.content.iter_chunked(1 << 16):
            data += chunk
            if len(data) > MOST_PICTURE_BYTES:
                return _no(413, "the picture is too large")
        await asyncio.to_thread(_keep_picture, bytes(data))
        return web.json_response({"success": True})


def _keep_picture(data: bytes) -> None:
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as picture:
            if max(picture.size) > MOST_SIDE:
                raise ConfigError(f"a side of the picture is longer than {MOST_SIDE}", code="bad_picture")
            bus.inputs.put("video", np.asarray(picture.convert("RGB")))
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        raise ConfigError("this is no picture that can be read", code="bad_picture") from None


async def _object(request: web.Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except (ValueError, RecursionError):
        raise ConfigError("the body is not JSON", code="not_json") from None
    return _is_object(body, "the body")


def _is_object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{what} has to be a JSON object", code="bad_message")
    return value


def _url(address: tuple[str, int, str]) -> str:
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"http://{host}:{address[1]}"


def _names(address: tuple[str, int, str]) -> set[str]:
    return {_url(address), f"http://localhost:{address[1]}", f"http://127.0.0.1:{address[1]}"}


def _no(status: int, words: str) -> web.Response:
    return web.json_response({"success": False, "error": words}, status=status)
