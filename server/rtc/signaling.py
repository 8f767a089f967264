"""What WHIP and WHEP share: an offer is posted, the answer names a resource, and that resource is patched or deleted.

RFC 9725 (WHIP); WHEP keeps its shape (draft-ietf-wish-whep).
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from aiohttp import web

from comfystream.errors import BusyError, ComfyStreamError, NetworkError

from .ice import IceServer
from .sdp import MOST_BYTES, read_candidates

__all__ = ["AnsweringPeer", "Authorize", "Signaling"]

logger = logging.getLogger(__name__)

_SDP, _FRAGMENT = "application/sdp", "application/trickle-ice-sdpfrag"
_STATUS = {"sdp_too_large": 413, "unsupported_codec": 406, "not_found": 404}
_RETRY_S = "5"
_EXPOSED = "Location, ETag, Link, Accept-Patch, Retry-After"

Authorize = Callable[[web.Request], Awaitable[bool]]


class AnsweringPeer(Protocol):
    """What is asked of a peer here; `comfystream_server.rtc.peer.Peer` is one."""

    @property
    def state(self) -> str:
        """What the connection is doing; "closed" at the end."""
        ...

    async def answer(self, sdp: str, kind: str = "offer") -> tuple[str, str]:
        """SDP and type."""
        ...

    async def trickle(self, fragment: str) -> None:
        """Take candidates that came later."""
        ...

    async def close(self) -> None:
        """End the connection."""
        ...


@dataclass(frozen=True, slots=True)
class _Resource:
    peer: AnsweringPeer
    stream: str
    tag: str
    ufrag: str | None


class Signaling:
    """Handlers under one path: `POST path/{stream}`, and `PATCH` and `DELETE path/{stream}/{resource}`.

    Args:
        path: such as "/whip".
        connect: gives the peer for a stream's name; a `ComfyStreamError` of it becomes a 4xx or 503 with its words.
        authorize: whether a request may go on; it reads the bearer token. None = everybody may.
        ice_servers: told to clients in Link headers.
        origins: web origins that may ask besides our own; "*" = all.
    """

    def __init__(
        self,
        path: str,
        connect: Callable[[str, web.Request], Awaitable[AnsweringPeer]],
        *,
        authorize: Authorize | None = None,
        ice_servers: Callable[[], tuple[IceServer, ...]] = tuple,
        origins: tuple[str, ...] = (),
    ) -> None:
        self._path = path
        self._connect = connect
        self._authorize = authorize
        self._ice_servers = ice_servers
        self._origins = origins
        self._resources: dict[str, _Resource] = {}

    def add_to(self, app: web.Application) -> None:
        """Register the routes; open connections are closed when the application shuts down."""
        endpoint, resource = f"{self._path}/{{stream}}", f"{self._path}/{{stream}}/{{resource}}"
        for path in (endpoint, resource):
            app.router.add_route("OPTIONS", path, self._options)
        app.router.add_post(endpoint, self._guarded(self._post))
        app.router.add_patch(resource, self._guarded(self._patch))
        app.router.add_delete(resource, self._guarded(self._delete))
        app.on_shutdown.append(self._shut_down)

    async def _shut_down(self, _: web.Application) -> None:
        resources, self._resources = self._resources, {}
        for resource in resources.values():
            await resource.peer.close()

    def _guarded(
        self, handler: Callable[[web.Request], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        """With checks before, and errors as answers."""

        async def guarded(request: web.Request) -> web.Response:
            response = await self._refusal(request)
            if response is None:
                try:
                    response = await handler(request)
                except ComfyStreamError as error:
                    response = _failure(error)
            response.headers.update(self._cors(request))
            return response

        return guarded

    async def _refusal(self, request: web.Request) -> web.Response | None:
        if "Origin" in request.headers and not self._is_allowed(request):
            return web.Response(status=403, text=f"requests from {request.headers['Origin'][:200]} are not allowed")
        if self._authorize is not None and not await self._authorize(request):
            return web.Response(
                status=401, text="a bearer token is needed", headers={"WWW-Authenticate": 'Bearer realm="comfystream"'}
            )
        return None

    def _is_allowed(self, request: web.Request) -> bool:
        origin = request.headers["Origin"]
        return "*" in self._origins or origin in self._origins or urlsplit(origin).netloc == request.host

    def _cors(self, request: web.Request) -> dict[str, str]:
        if "Origin" not in request.headers or not self._is_allowed(request):
            return {}
        origin = request.headers["Origin"]
        return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": _EXPOSED, "Vary": "Origin"}

    async def _options(self, request: web.Request) -> web.Response:
        methods = "PATCH, DELETE" if "resource" in request.match_info else "POST"
        headers = {"Allow": f"{methods}, OPTIONS", "Accept-Post": _SDP, "Accept-Patch": _FRAGMENT}
        if cors := self._cors(request):
            cors["Access-Control-Allow-Methods"] = f"{methods}, OPTIONS"
            cors["Access-Control-Allow-Headers"] = "Authorization, Content-Type, If-Match"
        return web.Response(status=204, headers=headers | cors)

    async def _post(self, request: web.Request) -> web.Response:
        sdp = await _body(request, _SDP)
        stream = request.match_info["stream"]
        self._resources = {key: held for key, held in self._resources.items() if held.peer.state != "closed"}
        peer = await self._connect(stream, request)
        try:
            answer, _ = await peer.answer(sdp)
        except BaseException:
            await peer.close()
            raise
        key, tag = secrets.token_urlsafe(16), f'"{secrets.token_hex(8)}"'
        self._resources[key] = _Resource(peer, stream, tag, read_candidates(sdp)[1])
        headers = [("Location", f"{request.path}/{key}"), ("ETag", tag), ("Accept-Patch", _FRAGMENT)]
        headers += [("Link", link) for server in self._ice_servers() for link in _links(server)]
        return web.Response(status=201, text=answer, content_type=_SDP, headers=headers)

    def _resource(self, request: web.Request) -> _Resource:
        found = self._resources.get(request.match_info["resource"])
        if found is None or found.stream != request.match_info["stream"] or found.peer.state == "closed":
            raise NetworkError("there is no such connection; it may have ended", code="not_found")
        return found

    async def _patch(self, request: web.Request) -> web.Response:
        """Trickle ICE; restarts are refused in the standard's words for that (RFC 9725 4.3)."""
        resource = self._resource(request)
        fragment = await _body(request, _FRAGMENT)
        match = request.headers.get("If-Match")
        _, ufrag, _ = read_candidates(fragment)
        if match == "*" or (ufrag and resource.ufrag and ufrag != resource.ufrag):
            return web.Response(status=422, text="ICE restart is not supported here: delete the connection, post again")
        if match is None:
            return web.Response(status=428, text="send If-Match with the ETag of the 201 answer")
        if match.removeprefix("W/") != resource.tag:
            return web.Response(status=412, text="If-Match is not the ETag of this connection")
        await resource.peer.trickle(fragment)
        return web.Response(status=204)

    async def _delete(self, request: web.Request) -> web.Response:
        resource = self._resource(request)
        self._resources.pop(request.match_info["resource"], None)
        await resource.peer.close()
        return web.Response(status=200)


async def _body(request: web.Request, content_type: str) -> str:
    if request.content_type != content_type:
        headers = {"Accept-Post" if request.method == "POST" else "Accept-Patch": content_type}
        raise web.HTTPUnsupportedMediaType(text=f"send Content-Type: {content_type}", headers=headers)
    data = await request.content.read(MOST_BYTES + 1)
    while len(data) <= MOST_BYTES and (more := await request.content.read(MOST_BYTES + 1 - len(data))):
        data += more
    if len(data) > MOST_BYTES:
        raise NetworkError(f"the body is larger than {MOST_BYTES // 1024} KiB", code="sdp_too_large")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise NetworkError("the body is not UTF-8 text", code="bad_sdp") from error


def _failure(error: ComfyStreamError) -> web.Response:
    if isinstance(error, BusyError):
        return web.Response(status=503, text=str(error), headers={"Retry-After": _RETRY_S})
    return web.Response(status=_STATUS.get(error.code, 400), text=str(error))


def _links(server: IceServer) -> list[str]:
    """As RFC 9725 4.6 writes them."""
    login = f'; username="{server.username}"; credential="{server.credential}"; credential-type="password"'
    return [f'<{url}>; rel="ice-server"{login if server.username else ""}' for url in server.urls]
