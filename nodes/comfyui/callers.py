"""Who may call our routes: ComfyUI's own page, and nobody else's.

ComfyUI itself has no accounts, and its server answers whatever a browser sends. So a page of another site must get
neither the token nor an answer: by its `Origin` and `Sec-Fetch-Site`, and where its name was pointed at this machine
(DNS rebinding) by the `Host` that it comes under.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import secrets
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

__all__ = ["Callers", "TOKEN_HEADER"]

TOKEN_HEADER = "X-ComfyStream-Token"


class Callers:
    """Decides about requests.

    Args:
        names: host names under which ComfyUI may be called, beside addresses, localhost and this machine's name.
    """

    def __init__(self, names: frozenset[str] | None = None) -> None:
        self.token = secrets.token_urlsafe(24)
        named = os.environ.get("COMFYSTREAM_ALLOWED_HOSTS", "").replace("[", " ").replace("]", " ").replace(",", " ")
        self._names = frozenset(named.split()) if names is None else names

    def refusal(self, headers: Mapping[str, str], *, asks_for_token: bool = False) -> tuple[int, str] | None:
        """Status and words for a request that is refused, None for one that is not.

        Args:
            headers: of the request.
            asks_for_token: it has none yet; then only where it comes from counts.
        """
        host, origin = headers.get("Host", ""), headers.get("Origin", "")
        if not self._knows(host):
            return 403, f'this ComfyUI is not known as "{host[:80]}"; name it in COMFYSTREAM_ALLOWED_HOSTS'
        if origin and _authority(origin) != host.lower():
            return 403, "pages of other sites may not call this"
        if headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            return 403, "pages of other sites may not call this"
        if asks_for_token or hmac.compare_digest(headers.get(TOKEN_HEADER, "").encode(), self.token.encode()):
            return None
        return 401, "the token is missing; load the page again"

    def _knows(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in ("localhost", socket.gethostname().lower()) or name.endswith(".localhost") or name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _authority(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
