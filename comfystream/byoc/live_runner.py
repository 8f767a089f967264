"""The other way onto an orchestrator's list: a heartbeat, as its live runners send it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
from dataclasses import dataclass

import aiohttp

import comfystream
from comfystream.byoc.capability import Capability, OrchestratorAccess
from comfystream.byoc.worker import Worker

__all__ = ["LiveRunner", "RunnerPrice"]

_log = logging.getLogger(__name__)
BEAT_S, MOST_BEAT_S = 5.0, 30.0
REQUEST_S = 3.0


@dataclass(frozen=True, slots=True)
class RunnerPrice:
    """What an hour costs, in US dollars; orchestrators refuse a runner that costs nothing."""

    per_hour_usd: float = 0.01

    def body(self) -> dict[str, object]:
        """As it is sent."""
        return {"price": self.per_hour_usd, "currency": "usd", "unit": "hour"}


class LiveRunner:
    """Sends heartbeats for one capability while the worker is ready; orchestrators forget a runner after 20 s without.

    Args:
        access: how to reach the orchestrator.
        capability: what is offered, and where.
        price: of it.
        app: its name there; empty takes "live-video-to-video/" and that of the capability.
    """

    def __init__(
        self, access: OrchestratorAccess, capability: Capability, price: RunnerPrice | None = None, app: str = ""
    ) -> None:
        self._access = access
        self._capability = capability
        self._price = price or RunnerPrice()
        self._app = app or f"live-video-to-video/{capability.name}"
        self.runner_id = f"{capability.name}-{secrets.token_hex(4)}"
        self._secret = ""
        self._beat_s = BEAT_S
        self._task: asyncio.Task[None] | None = None
        self.beats = 0

    def begin(self, worker: Worker) -> None:
        """Start."""
        self._task = asyncio.create_task(self._run(worker), name=f"heartbeat-{self.runner_id}")

    async def _run(self, worker: Worker) -> None:
        failures = 0
        timeout = aiohttp.ClientTimeout(total=REQUEST_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                if worker.state_body().pipeline_ready:
                    refused = await self._beat(session, worker)
                    failures = failures + 1 if refused else 0
                    if failures == 1 or (failures and failures % 20 == 0):
                        _log.warning("heartbeat of %s: %s", self.runner_id, refused)
                await asyncio.sleep(min(self._beat_s * 2 ** min(failures, 3), MOST_BEAT_S))

    async def _beat(self, session: aiohttp.ClientSession, worker: Worker) -> str:
        """Why it did not work out; empty when it did. A runner that is not known any more begins anew."""
        try:
            async with session.post(
                f"{self._access.url}/runners/heartbeat",
                json=self._body(worker),
                headers={"Authorization": self._secret or self._access.secret.get_secret_value()},
                ssl=self._access.verify_tls,
                allow_redirects=False,
            ) as response:
                if response.status in (401, 404):
                    was_known, self._secret = bool(self._secret), ""
                    return "" if was_known else f"{response.status}: is ORCH_SECRET right, and live runners enabled?"
                if response.status != 200:
                    return f"{response.status} {(await response.content.read(200)).decode(errors='replace').strip()}"
                self._take(await response.json(content_type=None))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            return f"{self._access.url}: {error or type(error).__name__}"
        self.beats += 1
        return ""

    def _body(self, worker: Worker) -> dict[str, object]:
        return {
            "runner_id": self.runner_id,
            "runner_url": self._capability.url.rstrip("/"),
            "version": comfystream.__version__,
            "status": worker.state_body().status,
            "mode": "persistent",
            "app": self._app,
            "capacity": self._capability.capacity,
            "price_info": self._price.body(),
            "session_ids": [stream.id for stream in worker.streams],
        }

    def _take(self, reply: object) -> None:
        if not isinstance(reply, dict):
            return
        secret, every = reply.get("heartbeat_secret"), reply.get("heartbeat_interval")
        if isinstance(secret, str) and secret:
            self._secret = secret
        seconds = re.fullmatch(r"(\d+(?:\.\d+)?)s", every) if isinstance(every, str) else None
        if seconds is not None:
            self._beat_s = min(max(float(seconds[1]), 1.0), BEAT_S)

    async def close(self) -> None:
        """Stop; the orchestrator forgets the runner within 20 s. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
