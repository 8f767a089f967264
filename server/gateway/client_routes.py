"""What clients of a gateway call: `/process/stream/...`, as the published SDK does."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

from aiohttp import web

from ..http.errors import BadRequest, json_body
from ..rtc.ice import IceServer
from ..rtc.signaling import Signaling
from .calls import Reply
from .feed import Said
from .gateway import Gateway
from .job import HEADER, Job
from .stream import GatewayStream

__all__ = ["ClientRoutes"]

MOST_BODY = 10 << 20
RETRY_MS = 1000
SSE = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class ClientRoutes:
    """Handlers.

    Args:
        gateway: has the streams.
        public_url: under which clients reach it; empty takes what they called.
        rtmp_port: where RTMP is taken; 0 for nowhere.
    """

    def __init__(self, gateway: Gateway, public_url: str = "", rtmp_port: Callable[[], int] = lambda: 0) -> None:
        self._gateway = gateway
        self._rtmp_port = rtmp_port
        self._public_url = public_url.rstrip("/")

    def add_to(self, app: web.Application, ice_servers: Callable[[], tuple[IceServer, ...]], per_s: int) -> None:
        """Register all."""
        stream = "/process/stream/{stream}"
        app.router.add_post("/process/stream/start", self.start)
        app.router.add_post(f"{stream}/stop", self.stop)
        app.router.add_post(f"{stream}/update", self.update)
        app.router.add_get(f"{stream}/status", self.status)
        app.router.add_get(f"{stream}/data", self.data, allow_head=False)
        app.on_response_prepare.append(self._say_where_to_watch)
        for path, connect in (("whip", self._gateway.publish), ("whep", self._gateway.watch)):
            Signaling(f"{stream}/{path}", connect, ice_servers=ice_servers, connects_per_s=per_s).add_to(app)

    async def _say_where_to_watch(self, request: web.Request, response: web.StreamResponse) -> None:
        """In the answer to those who publish."""
        if response.status == 201 and request.path.endswith("/whip"):
            stream = self._gateway.get(request.match_info["stream"])
            response.headers["Livepeer-Playback-Url"] = self._urls(request, stream)["whep_url"]

    async def start(self, request: web.Request) -> web.Response:
        """Start a stream: 200 and its URLs once a worker has taken it."""
        job = Job.parse(request.headers.get(HEADER))
        document = await _object(request)
        stream = await self._gateway.start(job, document, local_base(request))
        return web.json_response(self._urls(request, stream))

    def _urls(self, request: web.Request, stream: GatewayStream) -> dict[str, str]:
        """All keys are there; those of ways that are not used are empty."""
        base = f"{self._public_url or public_base(request)}/process/stream/{quote(stream.id, safe='')}"
        wants = stream.wants
        return {
            "stream_id": stream.id,
            "whip_url": f"{base}/whip" if wants.video_in else "",
            "whep_url": f"{base}/whep" if wants.video_out else "",
            "rtmp_url": self._rtmp_url(request, stream) if wants.video_in else "",
            "rtmp_output_url": stream.outputs.urls,
            "update_url": f"{base}/update",
            "status_url": f"{base}/status",
            "data_url": f"{base}/data" if wants.data else "",
            "stop_url": f"{base}/stop",
        }

    def _rtmp_url(self, request: web.Request, stream: GatewayStream) -> str:
        port, host = self._rtmp_port(), urlsplit(self._public_url or public_base(request)).hostname or "localhost"
        name = f"[{host}]" if ":" in host else host
        return f"rtmp://{name}:{port}/{quote(stream.id, safe='')}" if port else ""

    async def stop(self, request: web.Request) -> web.Response:
        """Stop a stream: 200 with the worker's words, also when it had none."""
        stream = self._gateway.get(request.match_info["stream"])
        body = (await request.read())[:MOST_BODY]
        reply = await stream.end("stopped by the client", body)
        return _relayed(reply, 200) if reply is not None else web.json_response({"status": "success"})

    async def update(self, request: web.Request) -> web.Response:
        """Change parameters: the worker's answer as it is."""
        stream = self._gateway.get(request.match_info["stream"])
        if HEADER in request.headers:
            Job.parse(request.headers[HEADER])
        document = await _object(request)
        return _relayed(await stream.update(json.dumps(document).encode(), document))

    async def status(self, request: web.Request) -> web.Response:
        """How a stream is."""
        stream = self._gateway.get(request.match_info["stream"])
        return web.json_response({"whep_url": self._urls(request, stream)["whep_url"], **stream.status()})

    async def data(self, request: web.Request) -> web.StreamResponse:
        """What the worker says, as server-sent events; `Last-Event-ID` goes on where a connection broke off."""
        stream = self._gateway.get(request.match_info["stream"])
        if not stream.wants.data:
            raise BadRequest("this stream has no data", field="enable_data_output", code="no_data", status=503)
        last = request.headers.get("Last-Event-ID", "")
        after = int(last) if last.isascii() and last.isdigit() and len(last) < 18 else 0
        response = web.StreamResponse(headers=SSE)
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):  # the listener has gone
            await response.write(f"retry: {RETRY_MS}\n\n".encode())
            async for said in stream.feed.listen(after):
                await response.write(said.encoded() if isinstance(said, Said) else b": quiet\n\n")
        return response


async def _object(request: web.Request) -> dict[str, Any]:
    """The body as a JSON object; nothing is an empty one."""
    if len(await request.read()) > MOST_BODY:
        raise BadRequest("the body is larger than 10 MB", status=413, code="too_large")
    document = await json_body(request) if await request.read() else {}
    if not isinstance(document, dict):
        raise BadRequest("the body has to be a JSON object", code="bad_body")
    return document


def _relayed(reply: Reply, status: int | None = None) -> web.Response:
    kind = reply.content_type or "application/json"
    return web.Response(body=reply.body, status=status or reply.status, content_type=kind)


def public_base(request: web.Request) -> str:
    """Under which URL the caller reached us, proxies included."""
    given = request.headers
    scheme = given.get("X-Forwarded-Proto", request.scheme).split(",")[0].strip()
    host = given.get("X-Forwarded-Host", request.host).split(",")[0].strip()
    prefix = given.get("X-Forwarded-Prefix", "").rstrip("/")
    return f"{scheme if scheme in ('http', 'https') else 'http'}://{host}{prefix}"


def local_base(request: web.Request) -> str:
    """Where we reach ourselves: the socket that the request came in on."""
    name = request.transport.get_extra_info("sockname") if request.transport is not None else None
    if not isinstance(name, tuple):
        return public_base(request)
    address = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{request.scheme}://{address}:{name[1]}"
