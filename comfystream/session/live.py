"""One live run: frames in, a workflow that may change at any time, frames out to any number of readers.

One task owns the session: edits are done one after the other, in the order they were asked for. Frames pass beside it.
Everything here is for the event loop's thread; `loop_bridge` leads to the engine's threads and back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from comfystream.clock import Clock, SystemClock
from comfystream.engine.events import EngineRestarted, Progress
from comfystream.engine.protocol import FailPolicy
from comfystream.errors import WorkflowError
from comfystream.frames import AudioFrame, Frame, TextCue, VideoFrame
from comfystream.session.live_claims import Claim
from comfystream.session.live_editor import Editor
from comfystream.session.live_edits import Edits
from comfystream.session.live_engine import EngineHost
from comfystream.session.live_figures import LiveCounts, LiveStats
from comfystream.session.live_fps import FpsStats
from comfystream.session.live_meter import LiveMeter
from comfystream.session.live_options import LiveOptions
from comfystream.session.live_orders import Orders
from comfystream.session.live_presence import Presence
from comfystream.session.live_readers import Fanout, Reader
from comfystream.session.live_run import LiveRun
from comfystream.session.live_sink_state import SinkChanged
from comfystream.session.live_sinks import Sinks
from comfystream.session.live_size import FrameSize
from comfystream.session.live_source import LiveSource
from comfystream.session.live_state import (
    Change,
    SessionEvent,
    SessionState,
    SizeChanged,
    StateChanged,
    StateMachine,
)
from comfystream.session.source_state import SourcePlan, SourceStatus
from comfystream.workflow.edits import Patch
from comfystream.workflow.model import Workflow

__all__ = ["LiveSession"]

READER_ROOM = {VideoFrame: 2, AudioFrame: 50, TextCue: 64}
EVENT_ROOM = 256


class LiveSession:
    """One live run. Made and closed by `Sessions`.

    Args:
        id: names it to the outside.
        host: where its engine comes from.
        options: how it treats frames.
        clock: injected for tests.

    Attributes:
        sinks: its recordings and pushes.
        newest: the picture that it put out last.
    """

    def __init__(
        self, id: str, host: EngineHost, options: LiveOptions | None = None, clock: Clock | None = None
    ) -> None:
        self.id = id
        self._clock: Clock = clock or SystemClock()
        self._state = StateMachine(self._tell_state)
        self._run = LiveRun(id, host, options or LiveOptions(), self._clock, self._put_out, self._hear)
        self._frames: Fanout[Frame] = Fanout(2, READER_ROOM)
        self._events: Fanout[SessionEvent] = Fanout(EVENT_ROOM)
        self._meter = LiveMeter(self._clock)
        self._next_id = {VideoFrame: 0, AudioFrame: 0}
        self._presence = Presence(self._clock)
        self._orders = Orders(id, lambda patches, who: self._editor.patch(patches, who))
        self.sinks = Sinks(id, self.subscribe, lambda: self.gives, self._sink_changed)
        self.newest: VideoFrame | None = None
        self._sources = LiveSource(self.submit, self._events.put, self._presence)
        self._editor = Editor(self._run, self._state, self._orders, self._events.put, self._sources.show_again)

    # --- what it is

    @property
    def state(self) -> SessionState:
        """What it does with frames at the moment."""
        return self._state.now

    @property
    def revision(self) -> int:
        """Number of the revision that is in force; 0 before there is a workflow."""
        return self.edits.number

    @property
    def workflow(self) -> Workflow | None:
        """The workflow that is in force."""
        return self.edits.workflow

    @property
    def edits(self) -> Edits:
        """Its revisions."""
        return self._editor.edits

    @property
    def progress(self) -> Progress | None:
        """How far the workflow is that is being prepared; None while there is none."""
        return self._editor.progress

    @property
    def options(self) -> LiveOptions:
        """How it treats frames at the moment."""
        return self._run.options

    @property
    def fail_policy(self) -> FailPolicy:
        """What viewers get for a frame whose node raised."""
        return self.options.on_error

    @property
    def gives(self) -> frozenset[str]:
        """Modalities that the workflow puts out."""
        return self._run.gives

    # --- viewers

    def attach(self) -> None:
        """A viewer has come."""
        self._presence.attach()

    def detach(self) -> None:
        """A viewer has gone; the session goes on for a while, so that it may come back."""
        self._presence.detach()

    def _sink_changed(self, change: SinkChanged) -> None:
        self._events.put(change)
        self._presence.keep("sinks", self.sinks.are_running)

    @property
    def viewers(self) -> int:
        """How many are attached."""
        return self._presence.viewers

    @property
    def alone_s(self) -> float:
        """Seconds without any viewer, and without a source that keeps the session."""
        return self._presence.alone_s

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody has come back in time."""
        return self.alone_s > self.options.abandoned_after_s

    # --- frames

    def claim_source(self, who: str, *, is_chosen: bool = False) -> Claim:
        """A place in the line of those who send frames into this session.

        Args:
            who: names it to people, such as "viewer 3" or "clip.mp4".
            is_chosen: somebody asked for this source: it goes before viewers and publishers, who merely came.
        """
        return self._sources.claim(who, is_chosen=is_chosen)

    @property
    def source(self) -> str:
        """Who sends frames at the moment; empty for nobody."""
        return self._sources.sender

    @property
    def chosen(self) -> SourceStatus:
        """The source that somebody chose, and how it is."""
        return self._sources.status

    async def set_source(self, plan: SourcePlan | None, *, is_keeping: bool = False) -> Change:
        """Choose where frames come from. What was chosen before goes on until the new one is open.

        Args:
            plan: the source; None leaves it to viewers and publishers.
            is_keeping: the session goes on without viewers while this source is there.

        Raises:
            MediaError, NetworkError: it cannot be opened; nothing has changed.
            EngineError: another one was chosen meanwhile, or the session has ended.
        """
        await self._sources.choose(plan, is_keeping=is_keeping)
        return Change(self.revision)

    def submit(self, frame: VideoFrame | AudioFrame) -> None:
        """A frame has come; never waits. Its id is the session's from here on, since a source may start again."""
        kind = type(frame)
        frame = replace(frame, id=self._next_id[kind])
        self._next_id[kind] += 1
        if isinstance(frame, VideoFrame):
            self._meter.came(frame)
        match self.state:
            case SessionState.RUNNING:
                self._run.submit(frame)
            case SessionState.IDLE | SessionState.PREPARING if self._may_show_input:
                self._put_out(frame)
            case _:
                self._meter.dropped[str(self.state)] += 1
        self._run.note(frame)

    @property
    def _may_show_input(self) -> bool:
        """Before the first workflow; after one that failed, viewers see their raw camera only if that was asked for."""
        return self.workflow is None or self.fail_policy is FailPolicy.PASSTHROUGH

    def _put_out(self, frame: Frame) -> None:
        if self.state is SessionState.PAUSED:
            self._meter.dropped["paused"] += 1
            return
        if isinstance(frame, VideoFrame):
            self._meter.went(frame)
            self.newest = frame
        elif isinstance(frame, TextCue):
            self._events.put(frame)
        self._frames.put(frame)

    def subscribe(self) -> Reader[Frame]:
        """The output from now on; a slow reader loses only its own frames."""
        return self._frames.subscribe()

    def tell(self, event: SessionEvent) -> None:
        """Let everybody hear of something that happened beside the session."""
        self._events.put(event)

    def events(self) -> Reader[SessionEvent]:
        """What happens from now on."""
        return self._events.subscribe()

    # --- edits

    async def set_workflow(self, workflow: Workflow, *, base: int | None = None, who: str = "") -> Change:
        """Replace the workflow. It is prepared beside the running one, which goes on if anything fails.

        Args:
            workflow: what to run.
            base: the revision that the caller saw; None does not mind which.
            who: who asks, for the others.

        Raises:
            StaleRevision: `base` is not in force any more.
            WorkflowError, NodeError, EngineError: why it does not run.
            Cancelled: `cancel` was called, or another workflow was set while this one took long.
            BusyError: too many edits wait.
        """
        return await self._orders.do(lambda: self._editor.replace(workflow, who, "workflow", base), is_edit=True)

    async def patch(self, patches: Sequence[Patch], *, base: int | None = None, who: str = "") -> Change:
        """Change values of the workflow, all of them or none; raises what `set_workflow` raises."""
        if base is None:
            return await self._orders.patch(patches, who)
        return await self._orders.do(lambda: self._editor.patch(patches, who, base))

    async def undo(self, *, base: int | None = None) -> Change:
        """Back to the revision before; raises what `set_workflow` raises."""
        return await self._orders.do(lambda: self._editor.step(-1, base), is_edit=True)

    async def redo(self, *, base: int | None = None) -> Change:
        """Forward to the revision that was undone last; raises what `set_workflow` raises."""
        return await self._orders.do(lambda: self._editor.step(1, base), is_edit=True)

    async def cancel(self) -> Change:
        """Withdraw the edit that is being prepared, whose caller gets `Cancelled`; a WorkflowError if there is none."""
        if not await self._run.withdraw():
            raise WorkflowError("nothing is being prepared", code="nothing_to_cancel")
        return Change(self.revision)

    async def pause(self) -> Change:
        """Drop frames until `resume`; viewers keep the last picture."""

        async def work() -> Change:
            self._state.go(SessionState.PAUSED)
            return Change(self.revision)

        return await self._orders.do(work)

    async def resume(self) -> Change:
        """Go on after `pause`; nothing happens to a session that is not paused."""

        async def work() -> Change:
            if self.state is SessionState.PAUSED:
                self._state.go(SessionState.IDLE if self.workflow is None else SessionState.RUNNING)
            return Change(self.revision)

        return await self._orders.do(work)

    async def set_fail_policy(self, policy: FailPolicy) -> Change:
        """What viewers get from now on for a frame whose node raised."""

        async def work() -> Change:
            await self._run.set_fail_policy(policy)
            return Change(self.revision)

        return await self._orders.do(work)

    def set_size(self, size: FrameSize) -> Change:
        """What size the graph's pictures have, from the next one on."""
        self._run.set_size(size)
        self._events.put(SizeChanged(str(size.rule), size.width, size.height))
        is_fed = self.state is SessionState.RUNNING and bool(self.source)
        return Change(self.revision, self._next_id[VideoFrame] if is_fed else None)

    # --- what the run and the state tell

    def _hear(self, event: SessionEvent) -> None:
        self._editor.hear(event)
        self._meter.restarts += isinstance(event, EngineRestarted)
        if not isinstance(event, StateChanged):  # the state machine tells of those
            self._events.put(event)

    def _tell_state(self, state: SessionState, reason: str) -> None:
        self._events.put(StateChanged(state, self.revision, reason))

    # --- figures

    async def stats(self) -> LiveStats:
        """Figures so far."""
        engine = await self._run.stats()
        return self._meter.stats(
            self._run.dropped,
            engine,
            state=self.state,
            revision=self.revision,
            viewers=self.viewers,
            source=self.source,
            sinks=self.sinks.stats(),
            engine_pid=self._run.engine_pid,
        )

    def counts(self) -> LiveCounts:
        """Counters that take no call to the engine."""
        return self._meter.counts(self._run.dropped)

    def output_fps(self) -> FpsStats:
        """The output's rates; cheaper than `stats`."""
        return self._meter.output.stats(self._clock.now_ns())

    # --- the end

    async def close(self, reason: str = "") -> None:
        """End it: readers get what is left, edits that wait get an error. Idempotent."""
        if self.state is SessionState.ENDED:
            return
        self._state.go(SessionState.ENDED, reason)
        await self._sources.close()
        await self._orders.close()
        self._frames.close()
        await self.sinks.close()
        self._events.close()
        await self._run.close()
