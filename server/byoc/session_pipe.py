"""A stream's live session: frames through its workflow, and what viewers see while there is none."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

from comfystream.byoc.backend import Loading, Outlet, PipeReport
from comfystream.byoc.events import EVENTS, now_ms
from comfystream.byoc.messages import StreamParams
from comfystream.catalog.spec import Catalog
from comfystream.engine.events import EngineRestarted, NodeFailed, Progress
from comfystream.engine.protocol import FailPolicy
from comfystream.errors import ComfyStreamError
from comfystream.frames import AudioFrame, Frame, VideoFrame
from comfystream.session.live import LiveSession
from comfystream.session.live_state import SessionEvent, SessionState, StateChanged
from comfystream.workflow.model import Workflow

from .workflows import asked_workflow

__all__ = ["SessionPipe"]

_log = logging.getLogger(__name__)
FAILING_MS = 3000
RETRY_S, MOST_RETRY_S = 0.5, 15.0
DRAIN_S = 0.2
PHASES = {"check": "Reading the workflow", "compile": "Reading the workflow", "load": "Loading", "warm": "Warming up"}


class SessionPipe:
    """Made by `WorkflowBackend` for each stream.

    Args:
        session: of the stream; ended by `end`.
        workflow: what it begins with; None gives the frames back as they come.
        catalog: the node classes.
        outlet: for events.
        end: ends the session.
    """

    def __init__(
        self,
        session: LiveSession,
        workflow: Workflow | None,
        catalog: Catalog,
        outlet: Outlet,
        end: Callable[[], Awaitable[None]],
    ) -> None:
        self._session = session
        self._catalog = catalog
        self._outlet = outlet
        self._end = end
        self._frames = session.subscribe()
        self._events = session.events()
        self._progress: Loading | None = Loading("Reading the workflow") if workflow is not None else None
        self._trouble = ""
        self._last_error, self._last_error_ms = "", 0
        self._restarts = self._last_restart_ms = self._last_out_ms = 0
        self._recovering: asyncio.Task[None] | None = None
        session.attach()
        self._tasks = [asyncio.create_task(self._listen(), name=f"byoc-events-{session.id}")]
        if workflow is not None:
            self._tasks.append(asyncio.create_task(self._begin(workflow), name=f"byoc-begin-{session.id}"))

    # --- frames

    def submit(self, frame: VideoFrame | AudioFrame) -> None:
        """A frame has come. What the workflow does not put out of its kind passes by."""
        session = self._session
        if session.state is SessionState.FAILED and session.fail_policy is FailPolicy.PASSTHROUGH:
            self._frames.offer(frame)
            return
        session.submit(frame)
        kind = "video" if isinstance(frame, VideoFrame) else "audio"
        if session.state is SessionState.RUNNING and kind not in session.gives:
            self._frames.offer(frame)

    async def outputs(self) -> AsyncIterator[Frame]:
        """What the session puts out."""
        async for frame in self._frames:
            self._last_out_ms = now_ms()
            yield frame

    # --- workflows

    async def _begin(self, workflow: Workflow) -> None:
        """The first workflow; the stream runs meanwhile."""
        try:
            await self._session.set_workflow(workflow, who="start")
        except ComfyStreamError as error:
            self._fail(error)
        finally:
            self._progress = None

    async def update(self, params: StreamParams) -> None:
        """Another workflow, another size; both or, where the workflow is refused, neither."""
        workflow, before = asked_workflow(params.rest, self._catalog), self._session.options.size
        wanted = before
        if params.size is not None:
            width, height = params.size
            wanted = replace(before, width=width, height=height)
            self._session.set_size(wanted)  # the workflow is rehearsed in this size
        if workflow is not None:
            try:
                await self._session.set_workflow(workflow, who="update")
            except ComfyStreamError:
                if wanted != before and self._session.options.size == wanted:
                    self._session.set_size(before)
                raise
            self._trouble = ""

    def _fail(self, error: ComfyStreamError) -> None:
        self._note(str(error), error.code, error.node_id)
        self._trouble = str(error)
        if self._session.fail_policy is FailPolicy.STOP:
            self._frames.close()

    def _note(self, words: str, code: str, node: str | None = None, count: int = 1) -> None:
        self._last_error, self._last_error_ms = words[:2000], now_ms()
        _log.warning("session %s: %s", self._session.id, words)
        said = {"type": "error", "code": code, "message": words[:2000], "node": node, "count": count}
        self._outlet.event(said, EVENTS)

    # --- events

    async def _listen(self) -> None:
        async for event in self._events:
            self._hear(event)

    def _hear(self, event: SessionEvent) -> None:
        match event:
            case Progress() if self._progress is not None:
                share = event.done / event.total if event.total else None
                self._progress = Loading(event.message or PHASES.get(event.phase, event.phase), share)
            case NodeFailed():
                words = f'node {event.node_id} "{event.class_type}": {event.message}'
                self._note(words, "node_failed", event.node_id, event.count)
            case EngineRestarted():
                self._restarts += 1
                self._last_restart_ms = now_ms()
                self._outlet.event({"type": "restart", "reason": event.reason[:500]}, EVENTS)
            case StateChanged(state=SessionState.FAILED):
                self._note(event.reason, "engine_failed")
                if self._session.fail_policy is FailPolicy.STOP:
                    self._frames.close()
                elif self._recovering is None or self._recovering.done():
                    name = f"byoc-recover-{self._session.id}"
                    self._recovering = asyncio.create_task(self._recover(), name=name)

    async def _recover(self) -> None:
        """The engine gave up: the workflow that was in force is loaded anew until it works."""
        pause_s = RETRY_S
        while self._session.state is SessionState.FAILED and (workflow := self._session.workflow) is not None:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MOST_RETRY_S)
            with contextlib.suppress(ComfyStreamError):
                await self._session.set_workflow(workflow, who="recovery")
                self._restarts += 1
                self._last_restart_ms = now_ms()

    # --- how it is

    def loading(self) -> Loading | None:
        """While there is no workflow that runs; with the pass-through policy only as long as one is loaded."""
        if self._progress is not None:
            return self._progress
        if self._session.fail_policy is FailPolicy.PASSTHROUGH:
            return None
        if self._session.state is SessionState.FAILED or self._is_coming_back:
            return Loading("The engine starts again")
        return Loading(f"The workflow does not run: {self._trouble}") if self._trouble else None

    @property
    def _is_coming_back(self) -> bool:
        """Whether a workflow that ran is loaded anew."""
        return self._session.state is SessionState.PREPARING and self._session.workflow is not None

    def report(self) -> PipeReport:
        """How it is."""
        is_failing = self._is_coming_back or bool(self._trouble) or now_ms() - self._last_error_ms < FAILING_MS
        state = "LOADING" if self._progress is not None else "DEGRADED_INFERENCE" if is_failing else "ONLINE"
        if self._session.state is SessionState.FAILED:
            state = "ERROR"
        details = {"revision": self._session.revision, "dropped": self._session.counts().dropped}
        return PipeReport(state, self._last_error, self._last_error_ms, self._restarts, self._last_restart_ms, details)

    async def lost(self) -> dict[str, int]:
        """What session and engine dropped, and what was not taken from them in time."""
        dropped = (await self._session.stats()).dropped
        found = {f"work: {reason}": count for reason, count in dropped.items() if count}
        if self._frames.dropped:
            found["work: output not taken in time"] = self._frames.dropped
        return found

    async def drain(self) -> None:
        """Until nothing has come out for a moment."""
        began = now_ms()
        while now_ms() - max(began, self._last_out_ms) < DRAIN_S * 1000:  # noqa: ASYNC110 - waits for silence
            await asyncio.sleep(DRAIN_S / 4)

    async def close(self) -> None:
        """End the session. Idempotent."""
        tasks, self._tasks = self._tasks, []
        if self._recovering is not None:
            tasks.append(self._recovering)
            self._recovering = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._frames.close()
        self._events.close()
        await self._end()
