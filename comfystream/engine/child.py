"""The engine in a process of its own.

When that process dies, its runs go on in a new one with their last good workflow.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from comfystream.engine.child_process import ChildProcess
from comfystream.engine.child_runner import RESTART_S, ChildRunner
from comfystream.engine.events import Event, OnEvent, PackBroken
from comfystream.engine.once_job import OnceDone, OnceJob
from comfystream.engine.protocol import EngineOptions, OnOutput, RunnerOptions
from comfystream.engine.wire import Call, Freed, Happened, HappenedOnce, Message, Out, Reply
from comfystream.errors import EngineDied, EngineError
from comfystream.workflow.model import Workflow
from comfystream.workflow.problem import Problem

__all__ = ["ChildEngine"]

_log = logging.getLogger(__name__)
MAX_DEATHS = 5
WITHIN_S = 60.0
NOTICED_S = 0.1


class ChildEngine:
    """Hosts node classes and runs in a child process. See `engine.protocol.Engine` for what its methods promise.

    Args:
        options: what to load.

    Attributes:
        is_lost: it has died too often and does not come back by itself.

    Raises:
        EngineDied: the process ended while it was loading.
    """

    def __init__(self, options: EngineOptions | None = None) -> None:
        self._options = options or EngineOptions()
        self._lock = threading.RLock()
        self._ids = itertools.count(1)
        self._waiting: dict[int, Future[Any]] = {}
        self._runners: dict[int, ChildRunner] = {}
        self._once: dict[int, OnEvent] = {}
        self._deaths: deque[float] = deque(maxlen=MAX_DEATHS)
        self._closed = False
        self._is_up = threading.Event()
        self._is_up.set()
        self.is_lost = False
        self._process = ChildProcess(self._options)
        self._receive_from(self._process)

    @property
    def pid(self) -> int:
        """Process id of the child that runs now."""
        return self._process.pid

    # --- asking

    def call(self, runner: int | None, method: str, *arguments: Any) -> Future[Any]:
        """Ask the child for something."""
        answer: Future[Any] = Future()
        with self._lock:
            id = next(self._ids)
            self._waiting[id] = answer
            wire = self._process.wire
        try:
            wire.send(Call(id, runner, method, arguments))
        except OSError:
            self._waiting.pop(id, None)
            _fail(answer, EngineDied("the engine process has ended", hint="it is being started again"))
        return answer

    def send(self, message: Message) -> bool:
        """Send without an answer; False when the child is gone."""
        try:
            self._process.wire.send(message)
        except OSError:
            return False
        return True

    def object_info(self) -> Mapping[str, Any]:
        """See `engine.protocol.Engine.object_info`."""
        info: Mapping[str, Any] = self.call(None, "object_info").result()
        return info

    def broken_packs(self) -> tuple[PackBroken, ...]:
        """See `engine.protocol.Engine.broken_packs`."""
        broken: tuple[PackBroken, ...] = self.call(None, "broken_packs").result()
        return broken

    def check(self, workflow: Workflow) -> list[Problem]:
        """See `engine.protocol.Engine.check`."""
        problems: list[Problem] = self.call(None, "check", workflow).result()
        return problems

    def open(self, options: RunnerOptions, on_output: OnOutput, on_event: OnEvent) -> ChildRunner:
        """See `engine.protocol.Engine.open`."""
        deadline = time.monotonic() + RESTART_S
        while True:
            self._is_up.wait(RESTART_S)
            try:
                return self._open(options, on_output, on_event)
            except EngineDied:
                if self.is_lost or time.monotonic() > deadline:
                    raise
            time.sleep(NOTICED_S)

    def _open(self, options: RunnerOptions, on_output: OnOutput, on_event: OnEvent) -> ChildRunner:
        is_open = threading.Event()

        def tell(event: Event) -> None:
            if is_open.is_set():
                on_event(event)

        with self._lock:
            if self._closed:
                raise EngineError("the engine is closed")
            id = next(self._ids)
            runner = self._runners[id] = ChildRunner(id, self, options, on_output, tell)
        try:
            self.call(id, "open", options).result()
        except EngineError:
            runner.close()
            raise
        is_open.set()
        return runner

    def forget(self, runner: int) -> None:
        """A run has ended."""
        with self._lock:
            self._runners.pop(runner, None)

    def run_once(self, id: int, job: OnceJob, on_event: OnEvent) -> Future[OnceDone]:
        """See `engine.protocol.Engine.run_once`."""
        self._once[id] = on_event
        answer: Future[OnceDone] = self.call(id, "run_once", job)
        answer.add_done_callback(lambda done: self._once.pop(id, None))
        return answer

    def stop_once(self, id: int) -> None:
        """See `engine.protocol.Engine.stop_once`."""
        self.call(None, "stop_once", id)

    # --- hearing

    def _receive_from(self, process: ChildProcess) -> None:
        thread = threading.Thread(target=self._receive, args=(process,), name="engine-receive", daemon=True)
        thread.start()

    def _receive(self, process: ChildProcess) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._dispatch(process.wire.receive())
        if not self._closed:
            self._died(process)

    def _dispatch(self, message: Message) -> None:
        match message:
            case Reply(id, value, error):
                answer = self._waiting.pop(id, None)
                if answer is not None and answer.set_running_or_notify_cancel():
                    answer.set_exception(error) if error is not None else answer.set_result(value)
            case Out(runner, packed) if runner in self._runners:
                self._runners[runner].received(packed)
            case Freed(runner, slot) if runner in self._runners:
                self._runners[runner].freed(slot)
            case Happened(runner, event) if runner in self._runners:
                self._runners[runner].happened(event)
            case HappenedOnce(id, event) if (on_event := self._once.get(id)) is not None:
                on_event(event)

    # --- dying and coming back

    def _died(self, process: ChildProcess) -> None:
        self._is_up.clear()
        reason = process.describe_end()
        _log.error("the engine process died (%s)", reason)
        with self._lock:
            waiting, self._waiting = self._waiting, {}
            runners = [*self._runners.values()]
        for runner in runners:
            runner.engine_died(reason)  # first, so that whoever asks again because of an error here knows to wait
        words, hint = f"the engine process died: {reason}", "it is started again with the last good workflow"
        for answer in waiting.values():
            _fail(answer, EngineDied(words, hint=hint))
        process.end(0.1)
        try:
            self._start_again()
        except EngineDied as error:
            self.is_lost = True
            for runner in runners:
                runner.give_up(error)
            return
        finally:
            self._is_up.set()
        if runners:  # side by side: none waits for the models of another
            with ThreadPoolExecutor(len(runners), thread_name_prefix="engine-reopen") as pool:
                list(pool.map(lambda runner: runner.reopen(reason), runners))

    def _start_again(self) -> None:
        now = time.monotonic()
        if len(self._deaths) == MAX_DEATHS and now - self._deaths[0] < WITHIN_S:
            raise EngineDied(
                f"the engine process died {MAX_DEATHS + 1} times within {WITHIN_S:.0f} s",
                hint="see the log for its last lines; nothing is started again by itself now",
            )
        self._deaths.append(now)
        process = ChildProcess(self._options)
        with self._lock:
            if self._closed:
                process.end()
                return
            self._process = process
        self._receive_from(process)

    def close(self) -> None:
        """See `engine.protocol.Engine.close`."""
        with self._lock:
            already, self._closed = self._closed, True
            runners = [*self._runners.values()]
        if already:
            return
        for runner in runners:
            runner.close()
        self._process.end()
        for answer in self._waiting.values():
            _fail(answer, EngineError("the engine is closed", code="closed"))
        self._waiting = {}


def _fail(answer: Future[Any], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
