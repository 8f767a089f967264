"""A session of a live runner: what the orchestrator's proxy says of it, and the channels that it asks for in return."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from comfystream.errors import ConfigError, NetworkError

__all__ = ["ROUTE", "SESSION_ID", "Channel", "SessionAccess"]

SESSION_ID, TOKEN = "Livepeer-Session-Id", "Livepeer-Session-Token"
CONTROL, ROUTE = "Livepeer-Session-Control", "Livepeer-Runner-Route"
REQUEST_S = 5.0
MOST_REPLY = 1 << 20


class Channel(BaseModel):
    """One that the orchestrator has made.

    Attributes:
        name: as it was asked for.
        url: for clients.
        internal_url: for us; the same where there is none.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    url: str
    internal_url: str = ""

    @property
    def ours(self) -> str:
        """The URL for us."""
        return self.internal_url or self.url


class _Channels(BaseModel):
    channels: list[Channel]


@dataclass(frozen=True, slots=True)
class SessionAccess:
    """How the orchestrator is asked about a session. The token does not show when this is printed.

    Attributes:
        id: the session's.
        token: proves that we serve it.
        urls: under which the session is asked about, the first one first.
        verify_tls: False accepts any certificate.
    """

    id: str
    token: SecretStr
    urls: tuple[str, ...]
    verify_tls: bool = True

    @classmethod
    def of(cls, headers: Mapping[str, str], bases: Sequence[str] = (), *, verify_tls: bool = True) -> SessionAccess:
        """Read the headers that the orchestrator's proxy adds.

        Args:
            headers: of the request.
            bases: orchestrators at which we are registered: the header's address may be one for clients.
            verify_tls: False accepts any certificate.

        Raises:
            ConfigError: they are missing or cannot be used.
        """
        id = headers.get(SESSION_ID, "").strip()
        if not id or len(id) > 512:
            raise ConfigError(
                f"missing {SESSION_ID} header",
                code="no_session",
                hint="call the app_url of a session that was reserved at the orchestrator",
            )
        control, route = headers.get(CONTROL, "").strip().rstrip("/"), headers.get(ROUTE, "").strip()
        urls = [control] if _is_url(control) else []
        if route:
            tail = f"/runner/{quote(route, safe='')}/session/{quote(id, safe='')}"
            urls += [base + tail for base in bases if base + tail != control]
        if not urls:
            raise ConfigError(f"missing {CONTROL} header", code="no_session")
        return cls(id, SecretStr(headers.get(TOKEN, "").strip()), tuple(urls), verify_tls)

    async def create(self, channels: Mapping[str, str]) -> dict[str, Channel]:
        """Have channels made.

        Args:
            channels: name -> MIME type.

        Returns:
            The channels by name.

        Raises:
            NetworkError: the orchestrator does not make them; says why.
        """
        wanted = [{"name": name, "mime_type": mime} for name, mime in channels.items()]
        document = await self._ask("POST", {"channels": wanted})
        try:
            found = {one.name: one for one in _Channels.model_validate(document).channels}
        except ValidationError:
            found = {}
        missing = sorted(set(channels) - set(found))
        if missing:
            words = f"the orchestrator made no channel {', '.join(missing)}"
            raise NetworkError(words, code="no_channels")
        return found

    async def delete(self, names: Sequence[str]) -> None:
        """Have channels closed: whoever reads or writes them learns that it is over.

        Raises:
            NetworkError: they are gone already, or the orchestrator is not there.
        """
        await self._ask("DELETE", {"channels": list(names)})

    async def _ask(self, method: str, body: object) -> Any:
        """At the first address that answers."""
        refused = "no address"
        timeout = aiohttp.ClientTimeout(total=REQUEST_S)
        headers = {TOKEN: self.token.get_secret_value()}
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
            for url in self.urls:
                try:
                    return await self._ask_at(session, method, f"{url}/channels", body)
                except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                    refused = f"{url}: {error or type(error).__name__}"
        raise NetworkError(f"the orchestrator cannot be asked for channels: {refused}", code="no_channels")

    async def _ask_at(self, session: aiohttp.ClientSession, method: str, url: str, body: object) -> Any:
        async with session.request(method, url, json=body, ssl=self.verify_tls, allow_redirects=False) as response:
            said = await response.content.read(MOST_REPLY)
            if response.status != 200:
                words = f"{response.status} {said[:300].decode(errors='replace').strip()}"
                raise NetworkError(f"the orchestrator refuses channels: {words}", code="no_channels")
            return json.loads(said)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False
