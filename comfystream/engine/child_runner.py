"""One run in the engine process, seen from here."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from comfystream.channels import Closed
from comfystream.engine.events import (
    Activated,
    EngineLost,
    EngineRestarted,
    Event,
    NodeBlocked,
    NodeFailed,
    OnEvent,
    Progress,
    RolledBack,
    Stopped,
)
from comfystream.engine.protocol import FailPolicy, OnOutput, Revision, RunnerOptions, RunnerStats
from comfystream.engine.shared_frames import PackedFrame, SlotReader, SlotWriter
from comfystream.engine.wire import Feed, Freed
from comfystream.errors import ComfyStreamError, EngineDied, EngineError
from comfystream.frames import AudioFrame, Frame, VideoFrame
from comfystream.workflow.model import Workflow

if TYPE_CHECKING:
    from comfystream.engine.child import ChildEngine

__all__ = ["ChildRunner"]

IN_SLOTS = 4
IN_FLIGHT = 64
RESTART_S = 300.0


@dataclass(slots=True)
class _Good:
    """A revision that was activated: what it takes to load it again, and whether it ever made a frame."""

    revision: Revision
    workflow: Workflow
    sample: VideoFrame | tuple[int, int]
    has_made_frames: bool = False


class ChildRunner:
    """A run whose engine lives in a child process. See `engine.protocol.Runner` for what its methods promise.

    Revision numbers are counted here, so that they go on when the child is started again.
    """

    def __init__(
        self, id: int, engine: ChildEngine, options: RunnerOptions, on_output: OnOutput, on_event: OnEvent
    ) -> None:
        self.id = id
        self._engine = engine
        self._options = options
        self._on_output = on_output
        self._on_event = on_event
        self._numbers = itertools.count(1)
        self._offset = 0
        self._prepared_here = 0
        self._workflows: dict[int, tuple[Workflow, VideoFrame | tuple[int, int]]] = {}
        self._good: list[_Good] = []
        self._slots = SlotWriter(IN_SLOTS)
        self._reader = SlotReader()
        self._flight = _Flight(options.live)
        self._dropped: Counter[str] = Counter()
        self._sending = threading.Lock()
        self._alive = threading.Event()
        self._alive.set()
        self._closed = False
        self._error: ComfyStreamError | None = None
        self._outbox: queue.SimpleQueue[PackedFrame | None] = queue.SimpleQueue()
        self._output_thread = threading.Thread(target=self._put_out, name=f"engine-out-{id}", daemon=True)
        self._output_thread.start()

    # --- revisions

    def prepare(self, workflow: Workflow, sample: VideoFrame | tuple[int, int] = (512, 512)) -> Future[Revision]:
        """See `engine.protocol.Runner.prepare`."""
        if self._closed:
            raise Closed
        size = (sample.image.width, sample.image.height) if isinstance(sample, VideoFrame) else sample
        answer: Future[Revision] = Future()
        self._prepared_here += 1
        offset = self._offset

        def done(reply: Future[Any]) -> None:
            error = reply.exception()
            if error is not None:
                answer.set_exception(error)
                return
            revision = replace(reply.result(), number=reply.result().number + offset)
            self._workflows[revision.number] = (workflow, size)
            for old in sorted(self._workflows)[:-8]:
                del self._workflows[old]
            answer.set_result(revision)

        self._engine.call(self.id, "prepare", workflow, size).add_done_callback(done)
        return answer

    def withdraw(self) -> Future[bool]:
        """See `engine.protocol.Runner.withdraw`."""
        return self._engine.call(self.id, "withdraw")

    def activate(self, revision: Revision) -> Future[int]:
        """See `engine.protocol.Runner.activate`."""
        known = self._workflows.get(revision.number)
        if known is None:
            raise EngineError(f"revision {revision.number} is not prepared any more", hint="prepare the workflow again")
        good = _Good(revision, *known)
        answer: Future[int] = Future()

        def done(reply: Future[Any]) -> None:
            error = reply.exception()
            if error is not None:
                if not isinstance(error, EngineDied) and good in self._good:
                    self._good.remove(good)  # rolled back; when the child died, `reopen` decides
                answer.set_exception(error)
            else:
                answer.set_result(reply.result())

        self._good = [*self._good[-3:], good]
        there = replace(revision, number=revision.number - self._offset)
        self._engine.call(self.id, "activate", there).add_done_callback(done)
        return answer

    # --- frames

    def submit(self, frame: VideoFrame | AudioFrame) -> bool:
        """See `engine.protocol.Runner.submit`."""
        if self._closed:
            raise Closed
        while not self._closed:
            if not self._alive.is_set():
                if self._options.live:
                    self._flight.lost += 1
                    return False
                self._alive.wait(RESTART_S)
            with self._sending:
                packed = self._slots.write(frame, 0.0 if self._options.live else None)
                if packed is not None:
                    self._flight.left(frame)
                    self._engine.send(Feed(self.id, packed))
                    return True
            if self._options.live:
                self._dropped["engine_busy"] += 1
                return False
        raise Closed

    def freed(self, slot: int) -> None:
        """The child has taken an input out of its slot."""
        self._slots.free(slot)

    def received(self, packed: PackedFrame) -> None:
        """An output has come; how many wait is bounded by the child's slots."""
        self._outbox.put(packed)

    def _put_out(self) -> None:
        while (packed := self._outbox.get()) is not None:
            frame = self._reader.read(packed)
            if self._flight.arrived(frame):
                if self._good:
                    self._good[-1].has_made_frames = True
                self._on_output(frame)
            if packed.slot is not None:  # afterwards: the frame need not wait for this message
                self._engine.send(Freed(self.id, packed.slot))

    def happened(self, event: Event) -> None:
        """An event of the child's runner, with its revision numbers."""
        if isinstance(event, Stopped) and self._closed:
            return
        if isinstance(event, RolledBack):
            event = replace(event, restored=event.restored + self._offset)
        if isinstance(event, Progress | Activated | RolledBack | NodeFailed | NodeBlocked):
            event = replace(event, revision=event.revision + self._offset)
        self._on_event(event)

    # --- when the child dies

    def engine_died(self, reason: str) -> None:
        """The child is gone: what is under way is lost or sent again."""
        if not self._closed:
            self._on_event(EngineLost(reason))
        self._alive.clear()
        self._slots.close()
        self._reader.close()

    def reopen(self, reason: str) -> None:
        """A new child is there: load the last good revision into it and go on."""
        if self._closed:
            return
        if self._good and not self._good[-1].has_made_frames:
            self._good.pop()  # it died before this revision made one frame: most likely because of it
            if not self._good:
                self.give_up(EngineDied(f"the engine process died while it ran the workflow: {reason}"))
                return
        with self._sending:
            self._slots, self._reader = SlotWriter(IN_SLOTS), SlotReader()
        self._offset, self._prepared_here = self._offset + self._prepared_here, 0
        try:
            self._engine.call(self.id, "open", self._options).result(RESTART_S)
            number = self._load_good()
        except (ComfyStreamError, TimeoutError) as error:
            self.give_up(
                error if isinstance(error, ComfyStreamError) else EngineDied("the engine process did not answer")
            )
            return
        lost = self._flight.take_lost()
        self._dropped["engine_restart"] += lost
        self._on_event(EngineRestarted(reason, number, lost))
        for frame in self._flight.again():
            packed = self._slots.write(frame)
            if packed is not None:
                self._engine.send(Feed(self.id, packed))
        self._alive.set()

    def _load_good(self) -> int:
        if not self._good:
            return 0
        good = self._good[-1]
        good.has_made_frames = False
        revision = self.prepare(good.workflow, good.sample).result(RESTART_S)
        good.revision = revision
        self._engine.call(self.id, "activate", replace(revision, number=revision.number - self._offset))
        return revision.number

    def give_up(self, error: ComfyStreamError) -> None:
        """The run cannot go on."""
        self._error = error
        self._closed = True
        self._alive.set()
        self._slots.close()
        self._on_event(Stopped(str(error)))

    # --- the end

    def finish(self, timeout_s: float | None = None) -> bool:
        """See `engine.protocol.Runner.finish`."""
        while self._error is None:
            try:
                done: bool = self._engine.call(self.id, "finish", timeout_s).result()
                break
            except EngineDied:
                self._alive.wait(RESTART_S)
        else:
            raise self._error
        self._outbox.put(None)
        self._output_thread.join(timeout_s)
        return done and not self._output_thread.is_alive()

    def set_fail_policy(self, policy: FailPolicy) -> None:
        """See `engine.protocol.Runner.set_fail_policy`."""
        self._options = replace(self._options, on_error=policy)  # for the next child, too
        self._engine.call(self.id, "set_fail_policy", policy)

    def stats(self) -> RunnerStats:
        """See `engine.protocol.Runner.stats`."""
        stats: RunnerStats = self._engine.call(self.id, "stats").result()
        return replace(stats, dropped=Counter(stats.dropped) + self._dropped)  # what never reached it was dropped here

    def close(self) -> None:
        """See `engine.protocol.Runner.close`."""
        already, self._closed = self._closed, True
        if already and self._error is None:
            return
        self._slots.close()
        with contextlib.suppress(EngineError, TimeoutError):
            self._engine.call(self.id, "close").result(10)
        self._engine.forget(self.id)
        self._outbox.put(None)
        self._output_thread.join(5)
        self._reader.close()
        if not already:
            self._on_event(Stopped())


class _Flight:
    """Inputs that have left and whose outputs have not come.

    Live, pictures are counted as lost when the child dies. For files they are kept until their output is here, to be
    sent again. Sound is cut into other pieces on its way, so it cannot be matched: it is not sent again.
    """

    def __init__(self, live: bool) -> None:
        self._live = live
        self._kept: dict[int, VideoFrame] = {}
        self._under_way = 0
        self._newest_out = -1
        self.lost = 0

    def left(self, frame: VideoFrame | AudioFrame) -> None:
        """`frame` was sent."""
        if not isinstance(frame, VideoFrame):
            return
        if self._live:
            self._under_way = min(self._under_way + 1, IN_SLOTS)
            return
        self._kept[frame.id] = frame
        while len(self._kept) > IN_FLIGHT:  # a workflow that puts nothing out for its inputs
            self._kept.pop(next(iter(self._kept)))

    def arrived(self, frame: Frame) -> bool:
        """An output came; False when it was put out before (it was computed twice)."""
        if not isinstance(frame, VideoFrame):
            return True
        if self._live:
            self._under_way = max(self._under_way - 1, 0)
            return True
        for id in [id for id in self._kept if id <= frame.id]:
            self._kept.pop(id, None)
        if frame.id <= self._newest_out:
            return False
        self._newest_out = frame.id
        return True

    def take_lost(self) -> int:
        """How many are lost for good; the count starts again."""
        lost, self.lost, self._under_way = self.lost + self._under_way, 0, 0
        return lost

    def again(self) -> list[VideoFrame]:
        """What is to be sent again, in order."""
        return [*self._kept.values()]
