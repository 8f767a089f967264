"""Calls to workers: bounded in time and size, their failures in words."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import aiohttp

from comfystream.errors import NetworkError

from .workers import Health, Worker

__all__ = ["Calls", "Reply"]

PROBE_S = 2.0
MOST_REPLY = 1 << 20
FAILURES = (aiohttp.ClientError, OSError, TimeoutError, ValueError)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a worker answered."""

    status: int
    body: bytes
    content_type: str

    @property
    def is_good(self) -> bool:
        """Below 400."""
        return self.status < 400

    @property
    def words(self) -> str:
        """Its message, or the beginning of whatever it said."""
        try:
            document = json.loads(self.body)
        except (ValueError, RecursionError):
            document = None
        message = document.get("message") or document.get("error") if isinstance(document, dict) else None
        return str(message or self.body[:300].decode(errors="replace").strip() or f"status {self.status}")[:500]


class Calls:
    """One HTTP client for all workers.

    Args:
        verify_tls: False accepts any certificate of workers.
    """

    def __init__(self, *, verify_tls: bool = True) -> None:
        self.verify_tls = verify_tls
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The client; opened when it is first asked for."""
        if self._session is None or self._session.closed:
            # Without a limit: connections that clients keep open must not hold back the probes of workers.
            connector = aiohttp.TCPConnector(limit=0)
            timeout = aiohttp.ClientTimeout(total=None, connect=5.0)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        return self._session

    async def post(
        self, worker: Worker, path: str, stream: str, timeout_s: float, *, body: bytes = b"", is_json: bool = False
    ) -> Reply:
        """Call a worker about a stream.

        Raises:
            NetworkError: it does not answer.
        """
        headers = {**worker.headers, "X-Stream-Id": stream}
        if is_json:
            headers["Content-Type"] = "application/json"
        try:
            async with (
                asyncio.timeout(timeout_s),
                self.session.post(
                    worker.url + path, data=body, headers=headers, ssl=self.verify_tls, allow_redirects=False
                ) as response,
            ):
                said = await response.content.read(MOST_REPLY)
                return Reply(response.status, said, response.content_type)
        except FAILURES as error:
            words = f"no answer within {timeout_s:g} s" if isinstance(error, TimeoutError) else str(error)
            raise NetworkError(f"worker {worker.url}: {words}", code="worker_gone") from error

    async def probe(self, worker: Worker) -> Health:
        """How it is. Whatever answers lives; only some workers say more."""
        url = f"{worker.url}/health"
        try:
            async with (
                asyncio.timeout(PROBE_S),
                self.session.get(url, headers=worker.headers, ssl=self.verify_tls, allow_redirects=False) as response,
            ):
                said = await response.content.read(MOST_REPLY)
        except FAILURES:
            return Health.GONE
        return _health(said) if response.status == 200 else Health.READY

    async def close(self) -> None:
        """Hang up."""
        if self._session is not None:
            await self._session.close()


def _health(said: bytes) -> Health:
    try:
        document: Any = json.loads(said)
    except (ValueError, RecursionError):
        return Health.READY
    status = document.get("status") if isinstance(document, dict) else None
    return {"LOADING": Health.LOADING, "ERROR": Health.ERROR}.get(str(status).upper(), Health.READY)
