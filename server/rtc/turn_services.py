"""TURN servers that somebody else runs: passwords are fetched from Twilio or Cloudflare before the last ones expire.

Nothing waits for them. When a service cannot be reached, that is logged, tried again, and connections go on with what
there is.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp

from comfystream.errors import ComfyStreamError, NetworkError

from .ice import IceServer

__all__ = ["TurnService", "TurnServices", "read_servers"]

logger = logging.getLogger(__name__)

_TIMEOUT_S = 10.0
_MOST_BYTES = 64 * 1024
_RETRY_S, _LONGEST_RETRY_S = 5.0, 300.0
_USED = 0.75  # of their time: whoever gets them late still has a quarter of it
_BASES = {"twilio": "https://api.twilio.com", "cloudflare": "https://rtc.live.cloudflare.com"}


@dataclass(frozen=True, slots=True)
class TurnService:
    """Where passwords come from.

    Attributes:
        provider: "twilio" or "cloudflare".
        id: the account SID of Twilio, or the id of Cloudflare's TURN key.
        token: the auth token of Twilio, or the API token of that key.
        ttl_s: how long the passwords shall be good for, in seconds.
        base_url: another address of the service; empty for its own.
    """

    provider: str
    id: str
    token: str
    ttl_s: int = 24 * 3600
    base_url: str = ""

    async def fetch(self, client: aiohttp.ClientSession) -> tuple[IceServer, ...]:
        """New passwords.

        Raises:
            NetworkError: the service cannot be reached, refuses, or says what cannot be read.
        """
        base = (self.base_url or _BASES[self.provider]).rstrip("/")
        if self.provider == "twilio":
            url = f"{base}/2010-04-01/Accounts/{quote(self.id, safe='')}/Tokens.json"
            login = base64.b64encode(f"{self.id}:{self.token}".encode()).decode()
            more: dict[str, Any] = {"headers": {"Authorization": f"Basic {login}"}, "data": {"Ttl": str(self.ttl_s)}}
        else:
            url = f"{base}/v1/turn/keys/{quote(self.id, safe='')}/credentials/generate-ice-servers"
            more = {"headers": {"Authorization": f"Bearer {self.token}"}, "json": {"ttl": self.ttl_s}}
        try:
            async with client.post(url, allow_redirects=False, **more) as response:
                if response.status not in (200, 201):
                    raise NetworkError(f"{self.provider} answers {response.status}", code="turn_refused")
                document = await _json(response)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise NetworkError(f"{self.provider}: {error or type(error).__name__}", code="turn_unreachable") from error
        return read_servers(document)


async def _json(response: aiohttp.ClientResponse) -> Any:
    body = bytearray()
    async for part in response.content.iter_chunked(_MOST_BYTES):
        body += part
        if len(body) > _MOST_BYTES:
            raise ValueError("the answer is too long")
    return json.loads(body)


def read_servers(document: Any) -> tuple[IceServer, ...]:
    """The servers in a service's answer: `ice_servers` of Twilio, `iceServers` of Cloudflare.

    Raises:
        NetworkError: there is none that can be used.
    """
    entries = document.get("ice_servers") or document.get("iceServers") if isinstance(document, dict) else None
    servers = []
    for entry in [entries] if isinstance(entries, dict) else entries if isinstance(entries, list) else []:
        with contextlib.suppress(ComfyStreamError, AttributeError, TypeError):  # others may be of use
            urls = entry.get("urls") or entry.get("url")
            names = (urls,) if isinstance(urls, str) else tuple(urls or ())
            servers.append(IceServer(names, str(entry.get("username") or ""), str(entry.get("credential") or "")))
    if not servers:
        raise NetworkError("the answer names no ICE server that can be used", code="bad_turn_answer")
    return tuple(servers)


class TurnServices:
    """Keeps passwords fresh, on a task of its own.

    Args:
        services: where they come from.
        now_s: seconds of a clock that does not jump.
    """

    def __init__(self, services: Sequence[TurnService], now_s: Callable[[], float] = time.monotonic) -> None:
        self._services = tuple(services)
        self._now_s = now_s
        self._kept: dict[TurnService, tuple[float, tuple[IceServer, ...]]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def servers(self) -> tuple[IceServer, ...]:
        """What is there now, without those that have expired."""
        now = self._now_s()
        return tuple(server for expires, servers in self._kept.values() if now < expires for server in servers)

    def begin(self) -> None:
        """Start to fetch; returns at once."""
        self._tasks = [asyncio.create_task(self._renew(one), name=f"turn-{one.provider}") for one in self._services]

    async def _renew(self, service: TurnService) -> None:
        retry_s = _RETRY_S
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as client:
            while True:
                try:
                    asked = self._now_s()
                    self._kept[service] = (asked + service.ttl_s, await service.fetch(client))
                    wait_s, retry_s = service.ttl_s * _USED, _RETRY_S
                except NetworkError as error:
                    logger.warning("no TURN servers from %s; tried again in %.0f s", error, retry_s)
                    wait_s, retry_s = retry_s, min(2 * retry_s, _LONGEST_RETRY_S)
                await asyncio.sleep(wait_s)

    async def close(self) -> None:
        """End the tasks. Idempotent."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
