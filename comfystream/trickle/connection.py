"""How a client reaches a channel: one HTTP session at a time, a fresh one after a failure."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

import aiohttp

from comfystream.errors import NetworkError

from .wire import channel_url, segment_url

__all__ = ["FAILURES", "Connection", "in_words", "is_lasting", "unreachable"]

_TLS_HINT = "orchestrators sign their own: --insecure-tls, ORCH_INSECURE_TLS=true or verify_tls=False accepts it"

FAILURES = (aiohttp.ClientError, OSError, TimeoutError)
"""What a request raises when the transport fails."""


def in_words(error: object) -> str:
    """What went wrong, without the library's own notes about addresses and certificates."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno is not None:
        return os.strerror(error.os_error.errno) if error.os_error.errno > 0 else str(error.os_error)
    return str(error) or type(error).__name__


def is_lasting(error: object) -> bool:
    """Whether trying again is of no use: a certificate that is not trusted stays so."""
    return isinstance(error, aiohttp.ClientConnectorCertificateError)


def unreachable(what: str, error: object, times: int = 0) -> NetworkError:
    """The error that ends it: after so many times, and with what the person can do about it."""
    if is_lasting(error):
        return NetworkError(f"{what}: {in_words(error)}", code="certificate_not_trusted", hint=_TLS_HINT)
    often = f" ({times} times in a row)" if times else ""
    return NetworkError(f"{what}: {in_words(error)}{often}", code="channel_unreachable")


class Connection:
    """Requests on one channel. Waiting is normal in this protocol, so nothing has a total timeout.

    Args:
        url: the channel.
        http: a session of the caller, which stays the caller's; None makes one.
        verify_tls: False accepts any certificate: orchestrators sign their own.
        headers: sent with every request.
        connect_s: how long connecting may take.
    """

    def __init__(
        self,
        url: str,
        *,
        http: aiohttp.ClientSession | None = None,
        verify_tls: bool = True,
        headers: Mapping[str, str] | None = None,
        connect_s: float = 10.0,
    ) -> None:
        self.url = channel_url(url)
        self._session = http
        self._own: list[aiohttp.ClientSession] = []
        self._verify_tls = verify_tls
        self._headers = dict(headers or {})
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_s)

    async def request(
        self,
        method: str,
        number: int | str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        data: object = None,
    ) -> aiohttp.ClientResponse:
        """Send a request about a segment, or about the channel itself; returns with the response's headers."""
        session = self._session or await self.refresh()
        return await session.request(
            method,
            self.url if number is None else segment_url(self.url, number),
            headers={**self._headers, **(headers or {})},
            data=data,
            allow_redirects=False,
            ssl=self._verify_tls,
            timeout=self._timeout,
        )

    async def refresh(self) -> aiohttp.ClientSession:
        """Use connections that nobody used before; what still runs on the ones before these may end."""
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        self._own.append(self._session)
        while len(self._own) > 2:
            await self._own.pop(0).close()
        return self._session

    async def next_number(self, timeout_s: float = 10.0) -> int | None:
        """The number that is written next, if the server can tell."""
        async with asyncio.timeout(timeout_s), await self.request("GET", "next") as response:
            if response.status != 200:
                return None
            body = (await response.content.read(32)).strip()
            return int(body) if body.isdigit() else None

    async def drop(self, number: int | None, timeout_s: float = 5.0) -> bool:
        """DELETE a segment, or the channel, on a fresh connection; False when the server did not take it."""
        await self.refresh()
        try:
            async with asyncio.timeout(timeout_s), await self.request("DELETE", number) as response:
                return response.status == 200
        except FAILURES:
            return False

    async def close(self) -> None:
        """Close the sessions that this made."""
        while self._own:
            await self._own.pop().close()
