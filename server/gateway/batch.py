"""Single requests: `POST /process/request/{path}` goes to a worker's `{url}/{path}`, and its answer comes back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging

import aiohttp
from aiohttp import web

from comfystream.errors import ComfyStreamError, NetworkError

from ..http.errors import BadRequest
from .client_routes import public_base
from .job import HEADER, Job
from .orchestrator import Orchestrator
from .workers import Health, NoWorker, Worker

__all__ = ["Batch"]

_log = logging.getLogger(__name__)
MOST_WORDS = 2000
CHUNK = 1 << 16


class WorkerFailed(NetworkError):
    """It did not answer, or with 500 and more; another may."""

    default_code = "worker_failed"


class Batch:
    """The handler.

    Args:
        orchestrator: has the workers.
    """

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator

    def add_to(self, app: web.Application) -> None:
        """Register it."""
        app.router.add_post("/process/request/{path:.*}", self.request)

    async def request(self, request: web.Request) -> web.StreamResponse:
        """Ask one worker after another until one answers below 500; 4xx is the client's own."""
        job = Job.parse(request.headers.get(HEADER))
        path = request.match_info["path"]
        if ".." in path.split("/"):
            raise BadRequest("the path may not lead upwards", field="path", code="bad_path")
        body = await request.read()
        tried: list[Worker] = []
        last: ComfyStreamError | None = None
        while True:
            try:
                worker = self._orchestrator.workers.choose(job.capability, tried)
            except NoWorker:
                if last is None:
                    raise
                raise NoWorker(f'no worker could do "{job.capability}"; the last one: {last}') from last
            tried.append(worker)
            worker.load += 1
            try:
                return await self._ask(request, worker, path, body, job.timeout_s)
            except WorkerFailed as error:
                self._orchestrator.workers.failed(worker)
                last = error
            finally:
                worker.load -= 1

    async def _ask(
        self, request: web.Request, worker: Worker, path: str, body: bytes, timeout_s: float
    ) -> web.StreamResponse:
        calls = self._orchestrator.calls
        headers = {**worker.headers, "Content-Type": request.headers.get("Content-Type", "application/json")}
        url = f"{worker.url}/{path}" if path else worker.url
        asking = calls.session.post(url, data=body, headers=headers, ssl=calls.verify_tls, allow_redirects=False)
        try:
            async with asyncio.timeout(timeout_s):
                response = await asking
        except TimeoutError:
            raise WorkerFailed(f"worker {worker.url}: no answer within {timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            worker.health = Health.GONE  # until it answers again when it is asked how it is
            raise WorkerFailed(f"worker {worker.url}: {error}") from error
        async with response:
            if response.status == 401:
                self._orchestrator.workers.remove(worker)
            if response.status == 401 or response.status >= 500:
                words = (await response.content.read(MOST_WORDS)).decode(errors="replace").strip()
                raise WorkerFailed(f"worker {worker.url} answered {response.status} {words[:300]}")
            return await self._relay(request, response, timeout_s)

    async def _relay(
        self, request: web.Request, response: aiohttp.ClientResponse, timeout_s: float
    ) -> web.StreamResponse:
        kept = {name: response.headers[name] for name in ("Content-Type", "X-Metadata") if name in response.headers}
        is_events = response.content_type == "text/event-stream"
        extra = {"Livepeer-Balance": "0", "X-Orchestrator-Url": public_base(request), "Cache-Control": "no-cache"}
        status = response.status if response.status >= 400 else 200
        answer = web.StreamResponse(status=status, headers={**kept, **extra})
        if not is_events and response.content_length is not None:
            answer.content_length = response.content_length
        await answer.prepare(request)
        last, ending = b"", b"\ndata: [DONE]\n\n"
        try:
            async with asyncio.timeout(timeout_s):
                async for chunk in response.content.iter_any():
                    await answer.write(chunk)
                    last = (last + chunk)[-200:]
        except ConnectionError:
            return answer  # the client has gone, and with it, by closing, the worker's request
        except (aiohttp.ClientError, TimeoutError) as error:
            _log.warning("an answer broke off: %s", error or type(error).__name__)
            ending = _broken(error, timeout_s) + ending
            if not is_events:
                if request.transport is not None:
                    request.transport.abort()  # the client must not take this for all of it
                return answer
        if is_events and b"[DONE]" not in last:
            with contextlib.suppress(ConnectionError):
                await answer.write(ending)
        return answer


def _broken(error: aiohttp.ClientError | TimeoutError, timeout_s: float) -> bytes:
    """The event that says that more should have come, in the form of our workers' own."""
    if isinstance(error, TimeoutError):
        code, status, words = "deadline", 504, f"the worker did not end within {timeout_s:g} s"
    else:
        code, status, words = "worker_failed", 502, "the worker has gone in the middle of its answer"
    told = {"type": "error", "code": status, "status": "error", "message": words}
    return f"\n\ndata: {json.dumps({**told, 'error': {'code': code, 'message': words}})}\n".encode()
