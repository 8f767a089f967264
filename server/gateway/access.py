"""Who may call the gateway: pages of this machine and of named sites, workers with the secret, clients with a key."""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from ..control.messages import ErrorBody
from ..http.errors import error_reply

__all__ = ["Access"]

FOR_PAGES = ("/process/", "/workflows", "/api/v1/")
KEYED = ("/process/stream/start", "/process/request/")  # what follows goes by the stream's name, which nobody guesses
OPEN = "*"
ALLOWED = {
    "Access-Control-Allow-Methods": "GET, POST, PATCH, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, Livepeer, Authorization, If-Match, Last-Event-ID, "
    "Livepeer-Orch-Search-Timeout, Livepeer-Orch-Search-Resp-Timeout",
    "Access-Control-Expose-Headers": "Location, ETag, Link, Accept-Patch, Livepeer-Playback-Url, X-Metadata, "
    "X-Orchestrator-Url, Livepeer-Balance, Retry-After",
    "Access-Control-Max-Age": "600",
}


@dataclass(frozen=True, slots=True)
class Access:
    """Decides about each request.

    Attributes:
        secret: of workers that register.
        keys: of clients; without any everybody may start streams.
        origins: sites whose pages may call, beside those of this machine; "*" for all.
        is_loopback: only this machine can reach the gateway, so it is called by no other name.
    """

    secret: str
    keys: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    is_loopback: bool = True

    def is_worker(self, request: web.Request) -> bool:
        """Whether it has the secret."""
        return _same(request.headers.get("Authorization", ""), self.secret)

    def allows_origin(self, origin: str, host: str) -> bool:
        """Whether a page of `origin` may call the gateway that it reached as `host`."""
        if OPEN in self.origins or origin.rstrip("/") in self.origins:
            return True
        parts = urlsplit(origin)
        return parts.netloc.lower() == host.lower() or _is_this_machine(parts.hostname or "")

    def middleware(self) -> Middleware:
        """For aiohttp."""

        @web.middleware
        async def access(request: web.Request, handler: Handler) -> web.StreamResponse:
            refused = self._refusal(request)
            if refused is not None:
                return refused
            if request.method == "OPTIONS" and request.path.startswith(FOR_PAGES):
                has_route = request.match_info.http_exception is None
                return await handler(request) if has_route else web.Response(status=204)
            return await handler(request)

        return access

    def _refusal(self, request: web.Request) -> web.Response | None:
        try:
            origin = request.headers.get("Origin", "")
            name = urlsplit(f"//{request.host}").hostname or ""
            is_known = not self.is_loopback or _is_this_machine(name) or _is_address(name)
            is_ours = not origin or self.allows_origin(origin, request.host)
        except ValueError:
            is_known = is_ours = False
        if not is_known:
            return _no(403, "unknown_host", f'this gateway is not called "{request.host[:80]}"', "use localhost")
        if not is_ours:
            return _no(403, "foreign_origin", "pages of that site may not call this gateway", "see --allow-origin")
        if self.keys and request.method != "OPTIONS" and request.path.startswith(KEYED) and not self._has_key(request):
            return _no(401, "no_key", "a key is needed", "send Authorization: Bearer KEY")
        return None

    def _has_key(self, request: web.Request) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        fitting = sum(_same(given.strip(), key) for key in self.keys)
        return scheme.lower() == "bearer" and fitting > 0

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """For pages of other places; before any answer goes out, streams of events too."""
        origin = request.headers.get("Origin", "")
        if origin and request.path.startswith(FOR_PAGES) and response.status != 403:
            response.headers.update({"Access-Control-Allow-Origin": origin, "Vary": "Origin", **ALLOWED})


def _is_this_machine(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    return _is_address(name) and ipaddress.ip_address(name).is_loopback


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


def _no(status: int, code: str, message: str, hint: str) -> web.Response:
    return error_reply(status, ErrorBody(code=code, message=message, hint=hint))
