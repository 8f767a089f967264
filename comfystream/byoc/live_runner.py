"""The other way onto an orchestrator's list: as a live runner, which sends heartbeats and is told of its sessions.

The wire is that of go-livepeer's `ai/runner/live_runner.go`: a registration secret for the first beat, one of its own
for those that follow, a channel ("o2r") on which the orchestrator says which sessions begin and end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
import time
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

import aiohttp

import comfystream
from comfystream.byoc.capability import Capability, OrchestratorAccess
from comfystream.byoc.hardware import gpu_info
from comfystream.byoc.worker import Worker
from comfystream.errors import ComfyStreamError, ConfigError
from comfystream.trickle.messages import read_messages
from comfystream.trickle.reader import TrickleReader

__all__ = ["PERSISTENT", "SINGLE_SHOT", "LiveRunner", "RunnerPrice"]

_log = logging.getLogger(__name__)
PERSISTENT, SINGLE_SHOT = "persistent", "single-shot"
BEAT_S, MOST_BEAT_S = 5.0, 30.0
LOADING_S = 0.25  # how often it is looked whether the worker has become ready
SOONEST_S = 0.5  # between beats that somebody waits for
REQUEST_S = 3.0
MISSED = 2  # beats in a row that do not name a session before its stream is ended
_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class RunnerPrice:
    """What it costs, in US dollars; an orchestrator on a chain refuses a runner that costs nothing.

    Attributes:
        usd: the price.
        unit: of what: "hour", "720p" (an hour of 1280x720 pixels at 30 pictures per second), or "fixed" (a request).
    """

    usd: float = 0.01
    unit: Literal["hour", "720p", "fixed"] = "hour"

    def __post_init__(self) -> None:
        """Refuse what an orchestrator refuses.

        Raises:
            ConfigError: the price is not above 0.
        """
        if not 0 < self.usd < float("inf"):
            raise ConfigError(f"the price of a live runner is {self.usd}: it must be above 0", code="bad_price")

    def body(self) -> dict[str, object]:
        """As it is sent."""
        return {"price": self.usd, "currency": "usd", "unit": self.unit}


class LiveRunner:
    """One capability of a worker as a live runner; orchestrators forget one after 20 s without a heartbeat.

    It registers when the worker is ready. A session that the orchestrator releases ends its stream, whether that was
    said on the channel or only shows in the answers to heartbeats.

    Args:
        access: how to reach the orchestrator.
        capability: what is offered, and where.
        price: of it.
        app: its name there; empty takes "live-video-to-video/" or, for single requests, "batch/" and that of the
            capability.
        mode: "persistent", for streams, or "single-shot", for single requests.

    Attributes:
        runner_id: how it is called in addresses.
        sessions: ids of those that the orchestrator has for it now.
        beats: heartbeats that were taken.
    """

    def __init__(
        self,
        access: OrchestratorAccess,
        capability: Capability,
        price: RunnerPrice | None = None,
        app: str = "",
        mode: str = PERSISTENT,
    ) -> None:
        self._access = access
        self._capability = capability
        self._price = price or RunnerPrice()
        self._mode = mode
        self._app = app or f"{'batch' if mode == SINGLE_SHOT else 'live-video-to-video'}/{capability.name}"
        self.runner_id = f"{capability.name}-{secrets.token_hex(4)}"
        self.sessions: set[str] = set()
        self.beats = 0
        self.base_url = access.url
        self._secret = ""
        self._beat_s = BEAT_S
        self._beaten_s = float("-inf")
        self._missing: dict[str, int] = {}
        self._gpu: dict[str, object] | None = None
        self._lock = asyncio.Lock()
        self._worker: Worker | None = None
        self._session: aiohttp.ClientSession | None = None
        self._task: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None

    def begin(self, worker: Worker) -> None:
        """Start."""
        self._worker = worker
        self._task = asyncio.create_task(self._run(worker), name=f"heartbeat-{self.runner_id}")

    async def has_session(self, id: str) -> bool:
        """Whether the orchestrator has that session for this runner; it is asked when it has not said so yet."""
        if id not in self.sessions and self._worker is not None and self._secret:
            async with self._lock:
                if id not in self.sessions and time.monotonic() - self._beaten_s > SOONEST_S:
                    await self._beat(self._worker)
        return id in self.sessions

    # --- heartbeats

    async def _run(self, worker: Worker) -> None:
        self._gpu = _first_gpu(await asyncio.to_thread(gpu_info))
        timeout = aiohttp.ClientTimeout(total=REQUEST_S)
        failures = 0
        async with aiohttp.ClientSession(timeout=timeout) as self._session:
            while True:
                if not self._secret and not worker.state_body().pipeline_ready:
                    await asyncio.sleep(LOADING_S)
                    continue
                async with self._lock:
                    refused = await self._beat(worker)
                failures = failures + 1 if refused else 0
                if failures == 1 or (failures and failures % 20 == 0):
                    _log.warning("heartbeat of %s: %s", self.runner_id, refused)
                await asyncio.sleep(min(self._beat_s * 2 ** min(failures, 3), MOST_BEAT_S))

    async def _beat(self, worker: Worker) -> str:
        """Why it did not work out; empty when it did. A runner that is not known any more registers anew at once."""
        self._beaten_s = time.monotonic()
        status, words = await self._post(worker)
        if status in (401, 404) and self._secret:
            _log.info("runner %s is not known any more, and registers anew", self.runner_id)
            await self._forgotten(worker)
            status, words = await self._post(worker)
        if status in (401, 404):
            return f"{status} {words} (is ORCH_SECRET right, and does it run with -useLiveRunners?)"
        return "" if status == 200 else f"{status or ''} {words}".strip()

    async def _post(self, worker: Worker) -> tuple[int, str]:
        """Status and words of the answer; status 0 when there was none."""
        assert self._session is not None
        try:
            async with self._session.post(
                f"{self.base_url}/runners/heartbeat",
                json=self._body(worker),
                headers={"Authorization": self._secret or self._access.secret.get_secret_value()},
                ssl=self._access.verify_tls,
                allow_redirects=False,
            ) as response:
                if response.status != 200:
                    return response.status, (await response.content.read(200)).decode(errors="replace").strip()
                reply = await response.json(content_type=None)
        except aiohttp.ClientConnectorCertificateError:
            return 0, "its certificate cannot be verified; ORCH_INSECURE_TLS=true accepts one that it signed itself"
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            where, self.base_url = self.base_url, self._access.url
            return 0, f"{where}: {error or type(error).__name__}"
        await self._take(reply, worker)
        return 200, ""

    def _body(self, worker: Worker) -> dict[str, object]:
        state = worker.state_body()
        body: dict[str, object] = {
            "runner_id": self.runner_id,
            "runner_url": self._capability.url.rstrip("/"),
            "version": comfystream.__version__,
            "metadata": self._capability.description.encode()[:1000].decode(errors="ignore"),
            "status": "ready" if state.pipeline_ready else state.status.lower(),
            "mode": self._mode,
            "app": self._app,
            "capacity": self._capability.capacity,
            "price_info": self._price.body(),
            "session_ids": sorted(self.sessions),
        }
        return body if self._gpu is None else {**body, "gpu": self._gpu}

    async def _take(self, reply: Any, worker: Worker) -> None:
        """What an answer says."""
        if not isinstance(reply, dict):
            return
        self.beats += 1
        secret, channel = reply.get("heartbeat_secret"), reply.get("o2r")
        if isinstance(secret, str) and secret.strip():
            self._secret = secret.strip()
        orchestrator = reply.get("orchestrator")
        if isinstance(orchestrator, str) and orchestrator.startswith(("http://", "https://")):
            self.base_url = orchestrator.rstrip("/")
        self._beat_s = min(max(_seconds(reply.get("heartbeat_interval"), BEAT_S), 0.5), BEAT_S)
        if isinstance(channel, dict) and isinstance(channel.get("url"), str):
            await self._listen_to(channel["url"], worker)
        ids = reply.get("session_ids")
        await self._reconcile({id for id in ids or [] if isinstance(id, str)}, worker)

    # --- sessions

    async def _listen_to(self, url: str, worker: Worker) -> None:
        await self._stop_listening()
        name = f"o2r-{self.runner_id}"
        self._listening = asyncio.create_task(self._listen(url, worker), name=name)

    async def _listen(self, url: str, worker: Worker) -> None:
        """What the orchestrator says of sessions; without this channel heartbeats tell the same a little later."""
        try:
            async with TrickleReader(url, start=0, verify_tls=self._access.verify_tls) as reader:
                async for said in read_messages(reader):
                    id = said.get("session") if isinstance(said, dict) else None
                    if isinstance(id, str) and said.get("event") == "reserved":
                        self.sessions.add(id)
                    elif isinstance(id, str) and said.get("event") == "released":
                        await self._released(id, worker)
        except (ComfyStreamError, ValueError) as error:
            _log.warning("runner %s is not told of sessions at once: %s", self.runner_id, error)

    async def _reconcile(self, ids: set[str], worker: Worker) -> None:
        """The orchestrator's list counts, but what was reserved a moment ago may not be on that of an older beat."""
        self._missing = {id: self._missing.get(id, 0) + 1 for id in self.sessions - ids}
        for id, count in list(self._missing.items()):
            if count >= MISSED:
                await self._released(id, worker)
        self.sessions |= ids

    async def _released(self, id: str, worker: Worker) -> None:
        self.sessions.discard(id)
        self._missing.pop(id, None)
        await worker.stop(id, "the orchestrator has released the session")

    async def _forgotten(self, worker: Worker) -> None:
        """The orchestrator has dropped the runner, and its sessions with it."""
        self._secret = ""
        for id in list(self.sessions):
            await self._released(id, worker)

    # --- the end

    async def _stop_listening(self) -> None:
        task, self._listening = self._listening, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def close(self) -> None:
        """Leave the list. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        await self._stop_listening()
        secret, self._secret = self._secret, ""
        if secret:
            await self._unregister(secret)

    async def _unregister(self, secret: str) -> None:
        url = f"{self.base_url}/runners/{quote(self.runner_id, safe='')}/unregister"
        timeout = aiohttp.ClientTimeout(total=REQUEST_S)
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):  # it forgets the runner in 20 s anyway
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(url, headers={"Authorization": secret}, ssl=self._access.verify_tls) as response,
            ):
                if response.status >= 400:
                    _log.warning("runner %s stays on the list for a moment: %d", self.runner_id, response.status)


def _seconds(text: Any, default: float) -> float:
    """A duration as Go prints it: "5s", "1m30s"."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", text) if isinstance(text, str) else []
    return sum(float(number) * _UNITS[unit] for number, unit in parts) or default


def _first_gpu(found: dict[str, Any]) -> dict[str, object] | None:
    for gpu in found.values():
        return {"id": str(gpu["id"]), "name": str(gpu["name"]), "vram_mb": int(gpu["memory_total"]) >> 20}
    return None
