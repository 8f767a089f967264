"""Keeps capabilities on an orchestrator's list: from when the worker is ready until it ends, whatever restarts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aiohttp

from comfystream.byoc.capability import Capability, OrchestratorAccess
from comfystream.byoc.worker import Worker

__all__ = ["Pace", "Registration"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often.

    Attributes:
        again_s: a worker without streams registers again so often: that is how it comes back on the list of an
            orchestrator that was restarted. Never during a stream: registering resets what the orchestrator counts.
        settle_s: so long after its last stream it is left in peace: an orchestrator frees a place within 23 s.
        retry_s, most_retry_s: pauses after a failure, doubled from the first to the last, for ever.
        look_s: how often it is looked whether the worker is idle.
        request_s: how long a request may take.
    """

    again_s: float = 60.0
    settle_s: float = 30.0
    retry_s: float = 1.0
    most_retry_s: float = 30.0
    look_s: float = 0.25
    request_s: float = 5.0


class Registration:
    """Registers each capability by itself, so that one that is refused does not keep the others out.

    Args:
        access: how to reach the orchestrator.
        capabilities: what to register.
        pace: how often.
    """

    def __init__(
        self, access: OrchestratorAccess, capabilities: Sequence[Capability], pace: Pace | None = None
    ) -> None:
        self._access = access
        self._capabilities = tuple(capabilities)
        self._pace = pace or Pace()
        self._tasks: list[asyncio.Task[None]] = []
        self.registered: set[str] = set()
        self._asked: set[str] = set()  # the answer is not there yet; the orchestrator may have it on its list already

    def begin(self, worker: Worker) -> None:
        """Start; nothing is registered before the worker is ready."""
        self._tasks = [
            asyncio.create_task(self._keep(one, worker), name=f"register-{one.name}") for one in self._capabilities
        ]

    async def _keep(self, capability: Capability, worker: Worker) -> None:
        failures = 0
        while True:
            settle_s = self._pace.settle_s if capability.name in self.registered and worker.started else 0.0
            while worker.idle_s <= settle_s:  # noqa: ASYNC110 - what is waited for is time without streams
                await asyncio.sleep(self._pace.look_s)
            refused = await self._register(capability)
            if not refused:
                failures = 0
                await asyncio.sleep(self._pace.again_s)
                continue
            failures += 1
            if failures == 1 or failures % 20 == 0:
                _log.warning("capability %s is not registered (attempt %d): %s", capability.name, failures, refused)
            pause_s = min(self._pace.retry_s * 2 ** min(failures - 1, 10), self._pace.most_retry_s)
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))

    async def _register(self, capability: Capability) -> str:
        """Why it did not work out; empty when it did."""
        body = capability.body(self._access.token.get_secret_value())
        self._asked.add(capability.name)
        refused = await self._post("/capability/register", json=body)
        self._asked.discard(capability.name)
        if not refused:
            if capability.name not in self.registered:
                _log.info("capability %s is registered at %s", capability.name, self._access.url)
            self.registered.add(capability.name)
        return refused

    async def _post(self, path: str, more: Mapping[str, str] | None = None, **body: object) -> str:
        headers = {"Authorization": self._access.secret.get_secret_value(), **(more or {})}
        timeout = aiohttp.ClientTimeout(total=self._pace.request_s)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(
                    self._access.url + path,
                    headers=headers,
                    ssl=self._access.verify_tls,
                    allow_redirects=False,
                    **body,  # type: ignore[arg-type]
                ) as response,
            ):
                if response.status == 200:
                    return ""
                words = (await response.content.read(200)).decode(errors="replace").strip()
                return f"{response.status} {words}" + (_SECRET_HINT if response.status == 400 else "")
        except aiohttp.ClientConnectorCertificateError:
            return "its certificate cannot be verified; orchestrators sign their own: ORCH_INSECURE_TLS=true accepts it"
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            return f"{self._access.url}: {error or type(error).__name__}"

    async def close(self) -> None:
        """Take the capabilities off the list. Idempotent."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        gone = [one for one in self._capabilities if one.name in self.registered | self._asked]
        self.registered.clear()
        self._asked.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pace.request_s):
                for refused in await asyncio.gather(*(self._unregister(one) for one in gone)):
                    if refused:
                        _log.warning("a capability stays on the orchestrator's list: %s", refused)

    async def _unregister(self, capability: Capability) -> str:
        """The URL is for gateways that know several workers of one name; others do not look at it."""
        headers = {"X-Capability-Url": capability.url}
        return await self._post("/capability/unregister", headers, data=capability.name.encode())


_SECRET_HINT = " (is ORCH_SECRET the orchestrator's -orchSecret?)"
