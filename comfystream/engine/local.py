"""The engine in this process."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from comfystream.catalog.object_info import object_info
from comfystream.clock import Clock
from comfystream.engine.events import OnEvent, PackBroken
from comfystream.engine.host import Host
from comfystream.engine.once_job import OnceDone, OnceJob
from comfystream.engine.once_service import OnceService
from comfystream.engine.protocol import EngineOptions, OnOutput, RunnerOptions
from comfystream.engine.runner import LocalRunner
from comfystream.errors import EngineError, WorkflowError
from comfystream.workflow.bind import bind
from comfystream.workflow.check import check
from comfystream.workflow.model import Workflow
from comfystream.workflow.problem import Problem

if TYPE_CHECKING:
    from comfystream.media.device.backend import DeviceBackend

__all__ = ["LocalEngine"]


class LocalEngine:
    """Hosts node classes and runs in this process. See `engine.protocol.Engine` for what its methods promise.

    Args:
        options: what to load.
        clock, backend: injected for tests.
    """

    is_lost = False

    def __init__(
        self,
        options: EngineOptions | None = None,
        clock: Clock | None = None,
        backend: DeviceBackend | None = None,
    ) -> None:
        self.host = Host(options or EngineOptions(), clock, backend)
        self._runners: list[LocalRunner] = []
        self._once: OnceService | None = None
        self._lock = threading.Lock()
        self._closed = False

    def object_info(self) -> Mapping[str, Any]:
        """See `engine.protocol.Engine.object_info`."""
        return object_info(self.host.catalog)

    def broken_packs(self) -> tuple[PackBroken, ...]:
        """See `engine.protocol.Engine.broken_packs`."""
        return self.host.broken_packs()

    def check(self, workflow: Workflow) -> list[Problem]:
        """See `engine.protocol.Engine.check`."""
        try:
            bindings = bind(workflow)
        except WorkflowError as error:
            return [Problem(error.code, error.message, hint=error.hint, node_id=error.node_id)]
        return [*check(workflow, self.host.catalog, bindings).problems]

    def open(self, options: RunnerOptions, on_output: OnOutput, on_event: OnEvent) -> LocalRunner:
        """See `engine.protocol.Engine.open`."""
        with self._lock:
            if self._closed:
                raise EngineError("the engine is closed")
            runner = LocalRunner(self.host, options, on_output, on_event)
            self._runners = [*(r for r in self._runners if not r.is_closed), runner]
        return runner

    def run_once(self, id: int, job: OnceJob, on_event: OnEvent) -> Future[OnceDone]:
        """See `engine.protocol.Engine.run_once`."""
        with self._lock:
            if self._closed:
                raise EngineError("the engine is closed")
            if self._once is None:
                self._once = OnceService(self.host)
        return self._once.run(id, job, on_event)

    def stop_once(self, id: int) -> None:
        """See `engine.protocol.Engine.stop_once`."""
        if self._once is not None:
            self._once.stop(id)

    def close(self) -> None:
        """See `engine.protocol.Engine.close`."""
        with self._lock:
            self._closed = True
            runners, self._runners = self._runners, []
            once, self._once = self._once, None
        if once is not None:
            once.close()
        for runner in runners:
            runner.close()
