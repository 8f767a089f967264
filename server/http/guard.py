"""Who may call: tokens off the loopback, and only from pages that may.

A browser sends what any site asks it to. So a page of another site is refused by its `Origin`, and a name that was
pointed at this machine by somebody else (DNS rebinding) by the `Host` that it comes under.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from dataclasses import dataclass
from enum import IntEnum
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from comfystream.settings import ServerSettings

from ..control.messages import ErrorBody
from .errors import error_reply

__all__ = ["Guard", "Role"]

OPEN_PATHS = frozenset(
    {"/", "/health", "/live/", "/live/health", "/favicon.ico", "/connectivity", "/docs", "/openapi.json"}
)
OPEN_PREFIX = "/static/"
WATCHING = "/whep/"  # what is posted there changes nothing for others
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Role(IntEnum):
    """What a caller may do."""

    NOBODY = 0
    VIEWER = 1  # look
    OPERATOR = 2  # everything


@dataclass(frozen=True, slots=True)
class Guard:
    """Decides about each request.

    Args:
        settings: tokens, names, origins.
        token: of the operator; empty lets everybody in.
    """

    settings: ServerSettings
    token: str

    @classmethod
    def for_settings(cls, settings: ServerSettings) -> Guard:
        """With the configured token, or a new one when the server can be reached from outside."""
        return cls(settings, settings.token or ("" if settings.is_loopback else secrets.token_urlsafe(24)))

    def role_of(self, given: str) -> Role:
        """Whose token that is."""
        if not self.token or _same(given, self.token):
            return Role.OPERATOR
        return Role.VIEWER if self.settings.viewer_token and _same(given, self.settings.viewer_token) else Role.NOBODY

    def allows_origin(self, origin: str, host: str) -> bool:
        """Whether a page of `origin` may call the server that it reached as `host`."""
        return urlsplit(origin).netloc.lower() == host.lower() or origin in self.settings.allowed_origins

    def allows_host(self, host: str) -> bool:
        """Whether this is a name of ours: an address, localhost, or one of the settings."""
        name = urlsplit(f"//{host}").hostname or ""
        if name in ("localhost", self.settings.host, *self.settings.allowed_hosts) or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return bool(self.token)  # a token is what such a page does not have
        return True

    def middleware(self) -> Middleware:
        """For aiohttp."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            refused = self._refusal(request)
            if refused is not None:
                return refused
            origin = request.headers.get("Origin", "")
            if request.method == "OPTIONS" and origin:
                has_route = request.match_info.http_exception is None
                answer = await handler(request) if has_route else web.Response(status=204)
                answer.headers.update(self._cors(origin))
                return answer
            response = await handler(request)
            if origin in self.settings.allowed_origins and not response.prepared:
                response.headers.update(self._cors(origin))
            return response

        return guard

    def _refusal(self, request: web.Request) -> web.Response | None:
        try:
            is_known, origin = self.allows_host(request.host), request.headers.get("Origin", "")
            is_ours = not origin or self.allows_origin(origin, request.host)
        except ValueError:
            is_known = is_ours = False
        if not is_known:
            return _no(403, "unknown_host", f'this server is not called "{request.host[:80]}"', "see allowed_hosts")
        if not is_ours:
            return _no(403, "foreign_origin", "pages of other sites may not call this server", "see allowed_origins")
        if request.path in OPEN_PATHS or request.path.startswith(OPEN_PREFIX) or request.method == "OPTIONS":
            return None
        role = self.role_of(_token_in(request))
        if role is Role.NOBODY:
            return _no(401, "no_token", "a token is needed", "the server printed it when it started")
        is_change = request.method not in SAFE_METHODS or request.headers.get("Upgrade", "").lower() == "websocket"
        if role is Role.VIEWER and is_change and not request.path.startswith(WATCHING):
            return _no(403, "viewer_only", "this token is for viewers", "changes take the operator's")
        return None

    def _cors(self, origin: str) -> dict[str, str]:
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": "GET, POST, PATCH, DELETE",
            "Access-Control-Allow-Headers": "Authorization, Content-Type, If-Match",
            "Access-Control-Expose-Headers": "Location, ETag, Link, Accept-Patch, Retry-After",
            "Vary": "Origin",
        }


def _token_in(request: web.Request) -> str:
    """From the header; from the query where a browser cannot set headers (WebSocket)."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else request.query.get("token", "")


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


def _no(status: int, code: str, message: str, hint: str) -> web.Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return error_reply(status, ErrorBody(code=code, message=message, hint=hint), headers)
