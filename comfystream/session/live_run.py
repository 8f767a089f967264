"""A session's run in the engine: opened with the first workflow, opened anew when it failed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace

from comfystream.catalog.spec import Catalog
from comfystream.channels import Closed
from comfystream.clock import Clock
from comfystream.engine.events import (
    Activated,
    EngineLost,
    EngineRestarted,
    Event,
    NodeBlocked,
    NodeFailed,
    Progress,
    RolledBack,
    Stopped,
)
from comfystream.engine.protocol import FailPolicy, Revision, Runner, RunnerOptions, RunnerStats
from comfystream.errors import ComfyStreamError, EngineError
from comfystream.frames import AudioFrame, Frame, Lane, VideoFrame
from comfystream.session.live_engine import EngineHost
from comfystream.session.live_options import LiveOptions
from comfystream.session.live_size import FrameSize, Sizer, SizeRule
from comfystream.session.live_state import RevisionChanged, SessionEvent, SessionState, StateChanged
from comfystream.session.loop_bridge import FromLoop, ToLoop, call, result
from comfystream.workflow.model import Workflow

__all__ = ["LiveRun"]

FRAMES_AHEAD = 64
EVENTS_AHEAD = 1024
FLOWING_NS = 1_000_000_000
FIRST_FRAME_S = 10.0
STATS_S = 2.0
KEPT_NUMBERS = 64


@dataclass(slots=True)
class _InForce:
    """A revision that was switched to: the engine's, and the session's number for it."""

    revision: Revision
    number: int
    is_proved: bool = False


class LiveRun:
    """Hides the engine's threads, and its numbers of revisions, from the session.

    Args:
        name: of its threads.
        host: where the engine comes from.
        options: how frames are treated.
        clock: tells whether frames come at the moment.
        on_output, on_event: called on the event loop.

    Attributes:
        options: as they are now.
    """

    def __init__(
        self,
        name: str,
        host: EngineHost,
        options: LiveOptions,
        clock: Clock,
        on_output: Callable[[Frame], None],
        on_event: Callable[[SessionEvent], None],
    ) -> None:
        self._name = name
        self._host = host
        self.options = options
        self._clock = clock
        self._on_output = on_output
        self._on_event = on_event
        self._runner: Runner | None = None
        self._opening: asyncio.Task[Runner] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._feed: FromLoop | None = None
        self._outputs: ToLoop[Frame] | None = None
        self._numbers: dict[int, int] = {}
        self._in_force: list[_InForce] = []
        self._awaited = 0
        self._preparing = 0
        self._newest: VideoFrame | None = None
        self._seen_ns: dict[Lane, int] = {}
        self._asking: asyncio.Task[RunnerStats] | None = None
        self._stats: RunnerStats | None = None
        self._sizer = Sizer(options.size)
        self._is_back = asyncio.Event()
        self._is_back.set()

    async def catalog(self) -> Catalog:
        """The node classes."""
        return await self._host.known()

    @property
    def gives(self) -> frozenset[str]:
        """Modalities that the revision in force puts out."""
        return self._in_force[-1].revision.gives if self._in_force else frozenset()

    @property
    def dropped(self) -> dict[str, int]:
        """What was lost between the threads."""
        return {
            "session_busy": self._outputs.dropped if self._outputs is not None else 0,
            "engine_busy": self._feed.dropped if self._feed is not None else 0,
            "cannot_scale": self._sizer.dropped,
        }

    # --- frames

    def note(self, frame: VideoFrame | AudioFrame) -> None:
        """A frame has come, whether or not it is submitted."""
        if isinstance(frame, VideoFrame):
            self._newest = frame
        self._seen_ns[Lane.VIDEO if isinstance(frame, VideoFrame) else Lane.AUDIO] = self._clock.now_ns()

    def submit(self, frame: VideoFrame | AudioFrame) -> None:
        """Hand a frame to the engine; never waits."""
        if self._feed is not None:
            self._feed.put(frame)

    # --- revisions

    async def load(self, workflow: Workflow, number: int) -> Future[int]:
        """Prepare a workflow and switch to it at the next frame border.

        Args:
            workflow: what to run.
            number: the session's number for it.

        Returns:
            What `first_frame` waits for.

        Raises:
            WorkflowError, NodeError, EngineError: it does not run.
        """
        await self._is_back.wait()  # what is asked for while the engine is started again is done by the new one
        runner = await self._opened()
        newest = self._newest
        size = self.options.size.sides
        if newest is not None and self.options.size.rule is SizeRule.FOLLOW:
            size = (newest.image.width, newest.image.height)
        self._preparing = number
        async with _ended_is_an_error():
            revision = await result(await call(runner.prepare, workflow, size))
            self._remember(revision.number, number)
            first = await call(runner.activate, revision)
        self._in_force = [*self._in_force[-3:], _InForce(revision, number)]
        return first

    async def withdraw(self) -> bool:
        """End what is being prepared, at its next node or step of a build; gives whether there was anything."""
        return self._runner is not None and await result(await call(self._runner.withdraw))

    async def first_frame(self, first: Future[int], *, is_paused: bool) -> int | None:
        """Id of the first frame that the revision loaded last has made; None when no frames come.

        Raises:
            NodeError: it failed on that frame; the revision before is in force again.
        """
        awaited = self._in_force[-1]
        if is_paused or not self._is_flowing(awaited.revision):
            return None
        self._awaited = awaited.revision.number
        try:
            async with asyncio.timeout(FIRST_FRAME_S):
                return await result(first)
        except TimeoutError:
            return None
        except ComfyStreamError:
            self._take_back(awaited)
            raise
        finally:
            self._awaited = 0

    def _take_back(self, failed: _InForce) -> None:
        self._in_force = [entry for entry in self._in_force if entry is not failed]

    def _is_flowing(self, revision: Revision) -> bool:
        now_ns = self._clock.now_ns()
        return any(
            lane is Lane.CLOCK or now_ns - self._seen_ns.get(lane, -FLOWING_NS) < FLOWING_NS for lane in revision.lanes
        )

    def _remember(self, revision: int, number: int) -> None:
        self._numbers[revision] = number
        while len(self._numbers) > KEPT_NUMBERS:
            del self._numbers[next(iter(self._numbers))]

    async def _opened(self) -> Runner:
        if self._runner is not None:
            return self._runner
        engine = await self._host.get()
        loop = asyncio.get_running_loop()
        self._outputs = ToLoop(loop, self._on_output, FRAMES_AHEAD)
        events: ToLoop[Event] = ToLoop(loop, self._hear, EVENTS_AHEAD)
        on_error, clock_fps = self.options.on_error, self.options.clock_fps
        wanted = RunnerOptions(live=True, on_error=on_error, clock_fps=clock_fps, name=self._name)
        self._opening = asyncio.create_task(call(engine.open, wanted, self._outputs.put, events.put))
        runner = await asyncio.shield(self._opening)
        self._runner = runner
        self._feed = FromLoop(f"feed-{self._name}", lambda frame: self._enter(runner, frame))
        return runner

    def set_size(self, size: FrameSize) -> None:
        """What size pictures have from the next one on."""
        self.options = replace(self.options, size=size)
        self._sizer.size = size

    def _enter(self, runner: Runner, frame: VideoFrame | AudioFrame) -> None:
        """On the feeding thread: scaling takes milliseconds, which the event loop has not got."""
        sized = self._sizer(frame)
        if sized is not None:
            runner.submit(sized)

    async def set_fail_policy(self, policy: FailPolicy) -> None:
        """What to put out for frames whose node raises."""
        self.options = replace(self.options, on_error=policy)
        if self._runner is not None:
            await call(self._runner.set_fail_policy, policy)

    # --- events, on the loop

    def _hear(self, event: Event) -> None:
        match event:
            case Activated(revision=revision):
                for entry in self._in_force:
                    entry.is_proved = entry.is_proved or entry.revision.number == revision
            case RolledBack(revision=revision):
                self._rolled_back(revision)
            case EngineLost():
                self._is_back.clear()
            case EngineRestarted(revision=revision):
                self._is_back.set()
                self._restarted(revision)
            case Stopped(error=error):
                self._is_back.set()
                if error:
                    self._failed(error)
        self._on_event(self._in_our_numbers(event))

    def _rolled_back(self, revision: int) -> None:
        if revision == self._awaited:
            return  # whoever waits for the first frame gets the error
        self._in_force = [entry for entry in self._in_force if entry.revision.number != revision]
        self._say_what_is_in_force("its first frame failed")

    def _restarted(self, revision: int) -> None:
        if len(self._in_force) > 1 and not self._in_force[-1].is_proved:
            self._in_force.pop()  # the engine does the same: it died before this revision made a frame
            self._say_what_is_in_force("the engine died before it made a frame")
        if self._in_force:
            self._remember(revision, self._in_force[-1].number)
            self._in_force[-1].revision = replace(self._in_force[-1].revision, number=revision)

    def _say_what_is_in_force(self, why: str) -> None:
        if self._in_force:
            self._on_event(RevisionChanged(self._in_force[-1].number, "", why))

    def _failed(self, error: str) -> None:
        runner, self._runner = self._runner, None
        feed, self._feed = self._feed, None
        self._in_force = []
        self._host.suspect()
        if feed is not None:
            feed.close()
        if runner is not None:
            self._closing = asyncio.create_task(call(runner.close), name=f"close-{self._name}")
        self._on_event(StateChanged(SessionState.FAILED, 0, error))

    def _in_our_numbers(self, event: Event) -> Event:
        if isinstance(event, Progress):
            return replace(event, revision=self._numbers.get(event.revision, self._preparing))
        if isinstance(event, RolledBack):
            restored = self._numbers.get(event.restored, 0)
            return replace(event, revision=self._numbers.get(event.revision, 0), restored=restored)
        if isinstance(event, Activated | NodeFailed | NodeBlocked | EngineRestarted):
            return replace(event, revision=self._numbers.get(event.revision, 0))
        return event

    # --- figures and the end

    @property
    def engine_pid(self) -> int | None:
        """Process of the engine, if it has one of its own."""
        return self._host.engine_pid

    async def stats(self) -> RunnerStats | None:
        """The engine's counters; the last known ones when it does not answer in time; None without a run."""
        if self._runner is None:
            return self._stats
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(call(self._runner.stats), name=f"stats-{self._name}")
        with contextlib.suppress(ComfyStreamError, TimeoutError):
            async with asyncio.timeout(STATS_S):
                self._stats = await asyncio.shield(self._asking)
        return self._stats

    async def close(self) -> None:
        """End the run. Idempotent."""
        self._runner = None
        if self._feed is not None:
            self._feed.close()
        opening, self._opening = self._opening, None
        with contextlib.suppress(ComfyStreamError):
            if opening is not None:
                await call((await opening).close)  # also one that was opened too late for anybody to use it
        if self._closing is not None:
            await self._closing


@contextlib.asynccontextmanager
async def _ended_is_an_error() -> AsyncIterator[None]:
    try:
        yield
    except Closed:
        raise EngineError(
            "the run has ended", code="run_ended", hint="set the workflow again to start a new one"
        ) from None
