"""What all offers share: one is posted, the answer names a resource, and that resource is patched or deleted.

RFC 9725 (WHIP); WHEP keeps its shape (draft-ietf-wish-whep), and so does what `/offer` answers.
"""

from __future__ import annotations

import asyncio
import functools
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from comfystream.errors import ComfyStreamError, NetworkError

from ..control.messages import ErrorBody
from ..http.errors import error_reply, refused
from .ice import IceServer
from .sdp import MOST_BYTES, Fragment, read_fragment, read_offer, ufrag_of

__all__ = ["AnsweringPeer", "Pace", "Resource", "Resources", "Signaling", "TooFast"]

_SDP, _FRAGMENT = "application/sdp", "application/trickle-ice-sdpfrag"
_MOST_CANDIDATES = 256  # that one connection may ever be told


class TooFast(ComfyStreamError):
    """More requests than may come in a second."""

    default_code = "too_fast"


class Pace:
    """At most so many a second, and as many at once after a quiet second.

    Args:
        per_s: how many.
    """

    def __init__(self, per_s: int) -> None:
        self._per_s = per_s
        self._left = float(per_s)
        self._at: float | None = None

    def takes(self, now_s: float) -> bool:
        """Whether one more may come now; it is counted then."""
        passed = 0.0 if self._at is None else now_s - self._at
        self._left, self._at = min(self._per_s, self._left + passed * self._per_s), now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


class AnsweringPeer(Protocol):
    """What is asked of a peer here; `comfystream_server.rtc.peer.Peer` is one."""

    @property
    def state(self) -> str:
        """What the connection is doing; "closed" at the end."""
        ...

    async def answer(self, sdp: str, kind: str = "offer") -> tuple[str, str]:
        """SDP and type. It is closed when the offer is no good."""
        ...

    async def trickle(self, fragment: str) -> None:
        """Take candidates that came later."""
        ...

    async def restart(self, fragment: str) -> str:
        """Go on over a new ICE connection: the fragment to answer with."""
        ...

    async def close(self) -> None:
        """End the connection."""
        ...


@dataclass(slots=True)
class Resource:
    """A connection that was answered.

    Attributes:
        key: names it in its address; who knows it may change the connection.
        peer: our end.
        stream: what it belongs to.
        tag: its ETag; each ICE restart makes a new one.
        ufrag: of the other end.
        candidates: how many it was told since the last restart.
    """

    key: str
    peer: AnsweringPeer
    stream: str
    tag: str
    ufrag: str | None
    candidates: int = 0

    def headers(self, request: web.Request) -> dict[str, str]:
        """For the answer to the offer that `request` brought."""
        return {"Location": f"{request.path}/{self.key}", "ETag": self.tag, "Accept-Patch": _FRAGMENT}


class Resources:
    """The connections that were answered under one path, and what may be done to them.

    Args:
        restarts_per_s: how many ICE restarts may come; each takes sockets.
    """

    def __init__(self, restarts_per_s: int = 20) -> None:
        self._pace = Pace(restarts_per_s)
        self._held: dict[str, Resource] = {}

    def routes(self, path: str) -> list[web.RouteDef]:
        """What may be asked at `path`, which ends in `{resource}`."""
        patch, delete = answering(self._patch), answering(self._delete)
        return [web.options(path, options), web.patch(path, patch), web.delete(path, delete)]

    async def close(self) -> None:
        """End all of them. Idempotent."""
        resources, self._held = self._held, {}
        for resource in resources.values():
            await resource.peer.close()

    def add(self, peer: AnsweringPeer, stream: str, sdp: str) -> Resource:
        """One more: the offer `sdp` was answered by `peer`."""
        self._held = {key: held for key, held in self._held.items() if held.peer.state != "closed"}
        resource = Resource(secrets.token_urlsafe(16), peer, stream, _new_tag(), ufrag_of(sdp))
        self._held[resource.key] = resource
        return resource

    def _resource(self, request: web.Request) -> Resource:
        found = self._held.get(request.match_info["resource"])
        stream = request.match_info.get("stream")
        if found is None or stream not in (None, found.stream) or found.peer.state == "closed":
            raise NetworkError("there is no such connection; it may have ended", code="not_found")
        return found

    async def _patch(self, request: web.Request) -> web.Response:
        """More ICE candidates; with new credentials, an ICE restart (RFC 9725 4.3)."""
        resource = self._resource(request)
        text = await _body(request, _FRAGMENT)
        match, said = request.headers.get("If-Match"), read_fragment(text)
        if match is None:
            return _no(428, "no_tag", "the request has no If-Match", "send the ETag of the last answer")
        if match != "*" and match.removeprefix("W/") != resource.tag:
            return _no(412, "other_tag", "If-Match is not the ETag of this connection", "send that of the last answer")
        if said.ufrag and said.ufrag != resource.ufrag:
            return await self._restart(resource, text, said)
        if match == "*":
            return _no(422, "no_restart", "these ICE credentials are those in use", "a restart takes new ones")
        resource.candidates += len(said.candidates)
        if resource.candidates > _MOST_CANDIDATES:
            raise TooFast(f"more than {_MOST_CANDIDATES} ICE candidates for one connection")
        await resource.peer.trickle(text)
        return web.Response(status=204)

    async def _restart(self, resource: Resource, text: str, said: Fragment) -> web.Response:
        if not self._pace.takes(asyncio.get_running_loop().time()):
            raise TooFast("ICE restarts come faster than they may", hint="try again in a second")
        answer = await resource.peer.restart(text)
        resource.tag, resource.ufrag, resource.candidates = _new_tag(), said.ufrag, len(said.candidates)
        return web.Response(text=answer, content_type=_FRAGMENT, headers={"ETag": resource.tag})

    async def _delete(self, request: web.Request) -> web.Response:
        """End the connection."""
        resource = self._resource(request)
        self._held.pop(resource.key, None)
        await resource.peer.close()
        return web.Response(status=200)


def _new_tag() -> str:
    return f'"{secrets.token_hex(8)}"'


async def options(request: web.Request) -> web.Response:
    """What may be asked here, for browsers."""
    methods = "PATCH, DELETE" if "resource" in request.match_info else "POST"
    headers = {"Allow": f"{methods}, OPTIONS", "Accept-Post": _SDP, "Accept-Patch": _FRAGMENT}
    return web.Response(status=204, headers=headers)


def answering(
    handler: Callable[[web.Request], Awaitable[web.Response]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """With errors as answers, so that pages of other sites may read them too."""

    @functools.wraps(handler)
    async def answer(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except ComfyStreamError as error:
            return refused(error)

    return answer


class Signaling:
    """Handlers under one path: `POST path/{stream}`, and `PATCH` and `DELETE path/{stream}/{resource}`.

    Args:
        path: such as "/whip"; where the name of the stream stands inside, "/stream/{stream}/whip".
        connect: gives the peer for a stream's name; a `ComfyStreamError` of it becomes a 4xx or 503 with its words.
        ice_servers: told to clients in Link headers.
        connects_per_s: how many may come.
    """

    def __init__(
        self,
        path: str,
        connect: Callable[[str, web.Request], Awaitable[AnsweringPeer]],
        *,
        ice_servers: Callable[[], tuple[IceServer, ...]] = tuple,
        connects_per_s: int = 20,
    ) -> None:
        self._path = path
        self._connect = connect
        self._ice_servers = ice_servers
        self._pace = Pace(connects_per_s)
        self._resources = Resources(connects_per_s)

    def add_to(self, app: web.Application) -> None:
        """Register the routes; open connections are closed when the application shuts down."""
        endpoint = self._path if "{stream}" in self._path else f"{self._path}/{{stream}}"
        app.router.add_route("OPTIONS", endpoint, options)
        app.router.add_post(endpoint, answering(self._post))
        app.add_routes(self._resources.routes(f"{endpoint}/{{resource}}"))
        app.on_shutdown.append(self._shut_down)

    async def _shut_down(self, _: web.Application) -> None:
        await self._resources.close()

    async def _post(self, request: web.Request) -> web.Response:
        if not self._pace.takes(asyncio.get_running_loop().time()):
            raise TooFast("connections come faster than they may", hint="try again in a second")
        sdp = await _body(request, _SDP)
        read_offer(sdp, "offer")  # what is no offer makes no session
        stream = request.match_info["stream"]
        peer = await self._connect(stream, request)
        answer, _ = await peer.answer(sdp)
        headers = [*self._resources.add(peer, stream, sdp).headers(request).items()]
        headers += [("Link", link) for server in self._ice_servers() for link in _links(server)]
        return web.Response(status=201, text=answer, content_type=_SDP, headers=headers)


async def _body(request: web.Request, content_type: str) -> str:
    if request.content_type != content_type:
        raise NetworkError(f"the body has to be {content_type}", code="wrong_content_type")
    data = await request.content.read(MOST_BYTES + 1)
    while len(data) <= MOST_BYTES and (more := await request.content.read(MOST_BYTES + 1 - len(data))):
        data += more
    if len(data) > MOST_BYTES:
        raise NetworkError(f"the body is larger than {MOST_BYTES // 1024} KiB", code="sdp_too_large")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise NetworkError("the body is not UTF-8 text", code="bad_sdp") from error


def _no(status: int, code: str, message: str, hint: str) -> web.Response:
    return error_reply(status, ErrorBody(code=code, message=message, hint=hint))


def _links(server: IceServer) -> list[str]:
    """As RFC 9725 4.6 writes them."""
    login = f'; username="{server.username}"; credential="{server.credential}"; credential-type="password"'
    return [f'<{url}>; rel="ice-server"{login if server.username else ""}' for url in server.urls]
