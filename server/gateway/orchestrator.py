"""The orchestrator's part: channels for each stream, calls to the worker that has it, and an eye on all workers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from comfystream.errors import ComfyStreamError, NetworkError
from comfystream.trickle.server import TrickleOptions, TrickleServer

from ..http.errors import BadRequest
from .calls import Calls, Reply
from .job import Wants
from .workers import Health, NoWorker, Worker, Workers

__all__ = ["TRICKLE_PATH", "Attempt", "Orchestrator", "WorkerRefused"]

_log = logging.getLogger(__name__)
TRICKLE_PATH = "/ai/trickle"
STOP_S, UPDATE_S = 8.0, 30.0
WATCH_S = 1.0
GONE_AFTER = 2  # probes without an answer
FORGET_S = 600.0  # without any answer
VIDEO, JSON, LINES = "video/MP2T", "application/json", "application/jsonl"
FIELDS = {
    "": ("subscribe_url", VIDEO),
    "-out": ("publish_url", VIDEO),
    "-control": ("control_url", JSON),
    "-events": ("events_url", JSON),
    "-data": ("data_url", LINES),
}


class WorkerRefused(BadRequest):
    """A worker answered, and said no.

    Args:
        worker: which one.
        reply: what it said.
    """

    default_code = "worker_refused"

    def __init__(self, worker: Worker, reply: Reply) -> None:
        words = f"worker {worker.url} answered {reply.status}: {reply.words}"
        super().__init__(words, status=reply.status, code=self.default_code)


@dataclass(slots=True, eq=False)
class Attempt:
    """A stream at one worker; after a failure the next attempt has channels of its own.

    Attributes:
        stream: its name.
        worker: who has it.
        root: what its channels' names begin with.
        kinds: which channels there are: "" (in), "-out", "-control", "-events", "-data".
    """

    stream: str
    worker: Worker
    root: str
    kinds: tuple[str, ...]
    is_over: bool = False
    stopping: asyncio.Task[Reply | None] | None = field(default=None, repr=False)

    def urls(self, base: str) -> dict[str, str]:
        """Kind -> URL of the channel for somebody who reaches us at `base`."""
        return {kind: f"{base}{TRICKLE_PATH}/{quote(self.root + kind, safe='')}" for kind in self.kinds}


class Orchestrator:
    """Workers, channels, and the streams that connect them.

    Args:
        calls: to workers.
        watch_s: how often workers are asked how they are.
    """

    def __init__(self, calls: Calls, *, watch_s: float = WATCH_S) -> None:
        self.workers = Workers()
        self.trickle = TrickleServer(TrickleOptions())
        self.calls = calls
        self.attempts: set[Attempt] = set()
        self._watch_s = watch_s
        self._tasks: set[asyncio.Task[Any]] = set()

    # --- streams

    async def start_somewhere(
        self, stream: str, root: str, name: str, wants: Wants, params: dict[str, Any], timeout_s: float
    ) -> Attempt:
        """Start at the best worker that takes it; those that are busy or gone are passed over.

        Raises:
            NoWorker: nobody takes it; says what the last one said.
            WorkerRefused: a worker says that the request is no good.
        """
        tried: list[Worker] = []
        last: ComfyStreamError | None = None
        while True:
            try:
                worker = self.workers.choose(name, tried)
            except NoWorker:
                if last is None:
                    raise
                raise NoWorker(f'no worker takes "{name}" now; the last one: {last}') from last
            tried.append(worker)
            try:
                return await self._start(stream, root, worker, wants, params, timeout_s)
            except WorkerRefused as error:
                if 400 <= error.status < 500 and error.status != 401:
                    raise
                last = error
            except NetworkError as error:
                last = error
            _log.info("stream %s: %s", stream, last)

    async def _start(
        self, stream: str, root: str, worker: Worker, wants: Wants, params: dict[str, Any], timeout_s: float
    ) -> Attempt:
        attempt = Attempt(stream, worker, root, _kinds(wants))
        worker.load += 1
        self.attempts.add(attempt)
        try:
            for kind in attempt.kinds:
                self.trickle.create(root + kind, FIELDS[kind][1])
            urls = attempt.urls(worker.base)
            body = {FIELDS[kind][0]: url for kind, url in urls.items()}
            document = {"gateway_request_id": stream, **body, "params": params}
            reply = await self._tell(attempt, "/stream/start", json.dumps(document).encode(), timeout_s)
        except BaseException:
            self._forget(attempt)
            raise
        if not reply.is_good:
            self._forget(attempt)
            self.workers.failed(worker)
            raise WorkerRefused(worker, reply)
        return attempt

    async def update(self, attempt: Attempt, body: bytes) -> Reply:
        """Hand an update to the worker: what it says.

        Raises:
            NetworkError: it does not answer.
        """
        return await self._tell(attempt, "/stream/params", body, UPDATE_S)

    async def stop(self, attempt: Attempt, body: bytes = b"") -> Reply | None:
        """End a stream at its worker: what that said, None if nothing. Channels and place are free then. Idempotent."""
        return await asyncio.shield(self.begin_stop(attempt, body))

    def begin_stop(self, attempt: Attempt, body: bytes = b"") -> asyncio.Task[Reply | None]:
        """The same, without waiting for it: a worker may take its time. Idempotent."""
        if attempt.stopping is None:
            attempt.stopping = self._own(self._stop(attempt, body), f"stop-{attempt.root}")
        return attempt.stopping

    async def _stop(self, attempt: Attempt, body: bytes) -> Reply | None:
        try:
            if attempt.worker.health is Health.GONE:
                return None
            return await self.calls.post(attempt.worker, "/stream/stop", attempt.stream, STOP_S, body=body)
        except NetworkError as error:
            _log.warning("stream %s is stopped without its worker: %s", attempt.stream, error)
            return None
        finally:
            self._forget(attempt)

    async def _tell(self, attempt: Attempt, path: str, body: bytes, timeout_s: float) -> Reply:
        worker = attempt.worker
        try:
            reply = await self.calls.post(worker, path, attempt.stream, timeout_s, body=body, is_json=True)
        except NetworkError:
            self.workers.failed(worker)
            raise
        if reply.status == 401:
            _log.warning("worker %s refuses its token and is taken off the list until it registers again", worker.url)
            self.workers.remove(worker)
        return reply

    def _forget(self, attempt: Attempt) -> None:
        if attempt.is_over:
            return
        attempt.is_over = True
        attempt.worker.load -= 1
        self.attempts.discard(attempt)
        for kind in attempt.kinds:
            self.trickle.close(attempt.root + kind)

    # --- workers

    async def watch(self) -> None:
        """Ask all workers how they are, again and again; end what lost its channels."""
        while True:
            await asyncio.gather(*(self._look_at(worker) for worker in list(self.workers)))
            for attempt in self._without_channels(list(self.attempts)):
                self.begin_stop(attempt, b"its channels have ended")
            await asyncio.sleep(self._watch_s)

    async def _look_at(self, worker: Worker) -> None:
        seen = await self.calls.probe(worker)
        worker.missed = worker.missed + 1 if seen is Health.GONE else 0
        if 0 < worker.missed < GONE_AFTER:
            return
        if worker.missed * self._watch_s > FORGET_S and not worker.load:
            self.workers.remove(worker)
        if seen is not worker.health and worker in self.workers:
            _log.info("worker %s for %s is %s", worker.url, worker.name, seen.value)
        worker.health = seen

    def _without_channels(self, attempts: Iterable[Attempt]) -> list[Attempt]:
        return [one for one in attempts if self.trickle.get(f"{one.root}-control") is None]

    def _own(self, work: Any, name: str) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Stop all streams, at their workers too. Bounded in time."""
        await asyncio.gather(*(self.stop(attempt, b"the gateway ends") for attempt in list(self.attempts)))
        for task in list(self._tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def _kinds(wants: Wants) -> tuple[str, ...]:
    chosen = {"": wants.video_in, "-out": wants.video_out, "-control": True, "-events": True, "-data": wants.data}
    return tuple(kind for kind, is_wanted in chosen.items() if is_wanted)
