"""A worker as a program: HTTP, what it loads, where it is registered, and an end in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from aiohttp import web

from comfystream.byoc.backend import Backend
from comfystream.byoc.capability import (
    OrchestratorAccess,
    capability_from,
    orchestrator_from,
    verify_tls_from,
    worker_token_from,
)
from comfystream.byoc.links import Links
from comfystream.byoc.live_routes import LiveRoutes
from comfystream.byoc.live_runner import LiveRunner
from comfystream.byoc.live_sessions import LiveSessions
from comfystream.byoc.processor import FrameProcessor
from comfystream.byoc.processor_backend import ProcessorBackend
from comfystream.byoc.registration import Registration
from comfystream.byoc.routes import Identity, add_routes, guard
from comfystream.byoc.stalls import stall_guard
from comfystream.byoc.worker import Worker, WorkerOptions
from comfystream.engine.protocol import FailPolicy
from comfystream.errors import ConfigError

__all__ = ["StreamServer", "Task"]

_log = logging.getLogger(__name__)
MOST_BODY = 16 << 20
DRAIN_S = 2.0


class Task(Protocol):
    """Something that runs beside a server: a registration, a heartbeat."""

    def begin(self, worker: Worker) -> None:
        """Start."""
        ...

    async def close(self) -> None:
        """End; what was told to others is taken back. Bounded in time, idempotent."""
        ...


class StreamServer:
    """Serves a `FrameProcessor`, or any other backend, to orchestrators.

    Args:
        frame_processor: what works on the frames.
        port: 0 takes a free one.
        host: address to listen on; orchestrators are usually on another one than this machine.
        capability_name: what it is registered as; empty takes `CAPABILITY_NAME`, then "comfystream".
        backend: in place of `frame_processor`, for what is more than a processor.
        capabilities: several names, when the backend can tell them apart.
        capacity: how many streams at once.
        size: width and height that pictures are brought to where a start does not say; None leaves them as they come.
        token: asked for as `Authorization: Bearer`; empty lets everybody in.
        verify_tls: False accepts any certificate of the servers that hold the channels, and of the orchestrator; None
            does so when `ORCH_INSECURE_TLS` is true.
        pipeline, version: what `/version` and `/app-version` tell.
        on_error: what viewers get for a picture that the processor failed on: "hold" the last good one, a "slate" that
            says what is wrong, "passthrough" of the camera, or "stop".
        on_stream_start, on_stream_stop: called with each stream, as the processor's own.
        beside: what runs as long as the server, such as a registration.
        more_routes: adds further paths to the web application, after its own.
        register: register with the orchestrator of `ORCH_URL` and `ORCH_SECRET`, if both are set.
    """

    def __init__(
        self,
        frame_processor: FrameProcessor | None = None,
        port: int = 8000,
        host: str = "0.0.0.0",
        capability_name: str = "",
        *,
        backend: Backend | None = None,
        capabilities: Sequence[str] = (),
        capacity: int = 1,
        size: tuple[int, int] | None = (512, 512),
        token: str = "",
        verify_tls: bool | None = None,
        pipeline: str = "",
        version: str = "0.0.1",
        on_error: str = "hold",
        on_stream_start: Callable[..., Any] | None = None,
        on_stream_stop: Callable[..., Any] | None = None,
        beside: Sequence[Task] = (),
        more_routes: Callable[[web.Application], None] | None = None,
        register: bool = True,
    ) -> None:
        if backend is None and frame_processor is None:
            raise ConfigError("a StreamServer needs a frame_processor", code="no_processor")
        if backend is None:
            assert frame_processor is not None
            policy = FailPolicy(on_error)
            backend = ProcessorBackend(frame_processor, on_stream_start, on_stream_stop, policy)
        name = capability_name or os.environ.get("CAPABILITY_NAME") or os.environ.get("MODEL_ID") or "comfystream"
        self.identity = Identity(
            pipeline or os.environ.get("PIPELINE") or "byoc", tuple(capabilities) or (name,), version
        )
        self.host = host
        self.port = port
        self._backend = backend
        verify_tls = verify_tls_from(os.environ) if verify_tls is None else verify_tls
        self._links = Links(verify_tls=verify_tls)
        self._options = WorkerOptions(capacity=capacity, size=size)
        self._token = token or worker_token_from(os.environ)
        self._beside = tuple(beside)
        self._more_routes = more_routes
        access = orchestrator_from(os.environ, self._token) if register else None
        self._access = None if access is None else replace(access, verify_tls=verify_tls)
        self._worker: Worker | None = None
        self._live: LiveSessions | None = None
        self._runner: web.AppRunner | None = None
        self._stopped = asyncio.Event()

    @property
    def worker(self) -> Worker:
        """Its streams; there once it has started."""
        if self._worker is None:
            raise ConfigError("the server has not started", code="not_started")
        return self._worker

    def app(self) -> web.Application:
        """The web application. Its worker is made here, so this is for the event loop."""
        self._worker = self._worker or Worker(self._backend, self._links, self._options)
        self._live = self._live or LiveSessions(self._worker, self._backend)
        names, runners = self.identity.capabilities, [one for one in self._beside if isinstance(one, LiveRunner)]
        live = LiveRoutes(self._worker, self._live, names, runners, verify_tls=self._links.verify_tls)
        middlewares = [guard(self._token, live.admits), stall_guard()]
        app = web.Application(middlewares=middlewares, client_max_size=MOST_BODY)
        add_routes(app, self._worker, self.identity)
        live.add_to(app)
        if self._more_routes is not None:
            self._more_routes(app)
        return app

    async def start(self) -> None:
        """Listen, load in the background, register when that is done.

        Raises:
            ConfigError: the port is taken.
        """
        self._runner = web.AppRunner(self.app(), access_log=None, shutdown_timeout=DRAIN_S, handler_cancellation=True)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.host, self.port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigError(
                f"cannot listen on {self.host}:{self.port}: {error.strerror or error}", code="cannot_listen"
            ) from error
        self.port = self._runner.addresses[0][1]
        self.worker.begin()
        if self._access is not None:
            self._beside = (*self._beside, self._registration(self._access))
            self._access = None
        for task in self._beside:
            task.begin(self.worker)
        _log.info("worker listens on %s:%d as %s", self.host, self.port, ", ".join(self.identity.capabilities))

    def _registration(self, access: OrchestratorAccess) -> Registration:
        found = capability_from(os.environ, f"http://localhost:{self.port}", self._options.capacity)
        named = found if "CAPABILITY_NAME" in os.environ else replace(found, name=self.identity.capabilities[0])
        return Registration(access, [named])

    async def run_forever(self) -> None:
        """Serve until Ctrl-C, SIGTERM or `stop`."""
        with _on_signals(self._stopped):
            await self.start()
            try:
                await self._stopped.wait()
            finally:
                await self.close()

    def stop(self) -> None:
        """Let `run_forever` return."""
        self._stopped.set()

    async def close(self) -> None:
        """Take back what was told to orchestrators, end the streams, free what is loaded. Idempotent."""
        await asyncio.gather(*(task.close() for task in self._beside))
        if self._worker is not None:
            await self._worker.close()
        if self._live is not None:
            await self._live.close()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()


@contextlib.contextmanager
def _on_signals(stopped: asyncio.Event) -> Any:
    loop = asyncio.get_running_loop()
    handled = []
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stopped.set)
        except (NotImplementedError, RuntimeError):  # Windows, or not the main thread: Ctrl-C raises instead
            continue
        handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
