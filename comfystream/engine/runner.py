"""One run in this process: lanes tick on threads, revisions are prepared beside them and switched at a frame border."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from comfystream import logs
from comfystream.channels import Closed
from comfystream.engine.activation import Activation, LaneTick, Prepared
from comfystream.engine.bound import Binder, Instances
from comfystream.engine.events import Activated, Event, OnEvent, RolledBack, Stopped
from comfystream.engine.failures import BlockedObserver, FailureLog
from comfystream.engine.host import Host, settle_memory
from comfystream.engine.lane_io import empty_mask
from comfystream.engine.lane_states import make_states
from comfystream.engine.lanes import Input, Lanes, LaneState
from comfystream.engine.meter import Meter
from comfystream.engine.placement import Places
from comfystream.engine.prepare import compile_checked, make_binder, run_static
from comfystream.engine.preparing import Preparations
from comfystream.engine.progress import PrepareProgress
from comfystream.engine.protocol import FailPolicy, OnOutput, Revision, RunnerOptions, RunnerStats
from comfystream.engine.rehearsal import builds_before_a_frame, needs_rehearsal, picture_of, rehearse, silence
from comfystream.engine.running import Running
from comfystream.engine.step import Step
from comfystream.engine.stepping_back import stepping_back
from comfystream.errors import ComfyStreamError, EngineError, MediaError, NodeError
from comfystream.frames import Frame, Lane, VideoFrame
from comfystream.workflow.model import Workflow

__all__ = ["LocalRunner"]

_log = logging.getLogger(__name__)
CLOSE_S = 5.0
KEPT_PREPARED = 4


class LocalRunner:
    """A run whose engine lives in this process. See `engine.protocol.Runner` for what its methods promise."""

    def __init__(self, host: Host, options: RunnerOptions, on_output: OnOutput, on_event: OnEvent) -> None:
        self._host = host
        self._options = options
        self._on_output = on_output
        self._on_event = on_event
        self._meter = Meter()
        self._failures = FailureLog(host.clock)
        self._instances = Instances()
        self._places = Places(host.backend) if host.backend is not None else None
        self._prepared: dict[int, Running] = {}
        self._attempt: list[int] = []
        self._current: Running | None = None
        self._switching = threading.Lock()
        self._preparing = Preparations(self.enter_thread, on_event)
        self._newest: VideoFrame | None = None
        self._sample_rate = 48_000
        self._closed = False
        self._error: ComfyStreamError | None = None
        self._lanes = Lanes(self, options.live)

    # --- revisions

    def prepare(self, workflow: Workflow, sample: VideoFrame | tuple[int, int] = (512, 512)) -> Future[Revision]:
        """See `engine.protocol.Runner.prepare`."""
        if self._closed:
            raise Closed
        return self._preparing.submit(lambda progress: self._prepare(workflow, sample, progress))

    def withdraw(self) -> Future[bool]:
        """See `engine.protocol.Runner.withdraw`."""
        return self._preparing.withdraw()

    def _prepare(self, workflow: Workflow, sample: VideoFrame | tuple[int, int], progress: PrepareProgress) -> Revision:
        began = time.perf_counter_ns()
        number = progress.revision
        current = self._current
        is_beside = self._options.live and current is not None
        with self._host.progress_goes_to(progress), stepping_back(wanted=is_beside):
            progress.phase("check")
            plan = compile_checked(workflow, self._host.catalog)
            if current is not None:
                self._keep_only([*current.activation.plan.steps.values(), *plan.steps.values()])
            binder = make_binder(plan, self._instances)
            progress.phase("load", total=len(plan.static_roots))
            host = self._host
            prepared = run_static(
                plan, host.catalog, binder, host.blocker, host.store, host.clock, progress, self._hold_attempt
            )
            progress.phase("warm", total=len(plan.lanes))
            cross = current.activation.crossing_values() if current is not None else {}
            cross = {**self._rehearse(prepared, current, sample), **cross}
        if self._places is not None:
            binder = make_binder(plan, self._instances, self._places)
        activation = self._activation(prepared, binder, cross=cross, observer=BlockedObserver(self.blocked, number))
        bindings = plan.bindings
        revision = Revision(
            number=number,
            lanes=tuple(plan.lanes),
            takes=frozenset(live.modality for live in bindings.inputs),
            gives=frozenset(live.modality for live in bindings.outputs),
            prepare_ms=(time.perf_counter_ns() - began) / 1e6,
            nodes_run=prepared.run,
        )
        self._keep(Running(revision, activation))
        if current is None:
            settle_memory()
        return revision

    def _keep_only(self, steps: list[Step]) -> None:
        """Forget what is known of all other nodes."""
        self._instances.keep_only(steps)
        if self._places is not None:
            self._places.keep_only(steps)

    def _hold_attempt(self, signatures: list[int]) -> None:
        """Keep what the newest attempt loaded, whether it succeeds or not, until the next one."""
        self._host.store.hold(signatures)
        before, self._attempt = self._attempt, signatures
        self._host.store.release(before)

    def _activation(self, prepared: Prepared, binder: Binder, **more: Any) -> Activation:
        return Activation(
            prepared,
            self._host.catalog,
            binder,
            self._host.blocker,
            self._host.store,
            self._host.clock,
            profile=self._options.profile,
            **more,
        )

    def _rehearse(
        self, prepared: Prepared, current: Running | None, sample: VideoFrame | tuple[int, int]
    ) -> dict[Any, Any]:
        """Warm new nodes.

        Files are not rehearsed, for no node is to see a frame twice, unless one builds something for the size.
        """
        plan = prepared.plan
        crosses = any(lane.crossing for lane in plan.lanes.values())
        wanted = needs_rehearsal(plan, current.activation.plan if current is not None else None)
        if not (wanted and (self._options.live or crosses or builds_before_a_frame(plan))):
            return {}
        forked = self._instances.fork() if self._options.live else Instances()
        activation = self._activation(prepared, make_binder(plan, forked, self._places), without_sinks=True)
        image = picture_of(self._newest or sample)
        picture = self._host.read_once(image) if Lane.VIDEO in plan.lanes else None
        sound = silence(plan.audio_buffer_ms, self._sample_rate) if Lane.AUDIO in plan.lanes else None
        cross = rehearse(activation, picture, empty_mask(self._host.backend), sound)
        if self._options.live:
            self._instances.adopt_new(forked)
        return cross

    def _keep(self, running: Running) -> None:
        with self._switching:
            self._host.store.hold(self._signatures(running))
            self._prepared[running.revision.number] = running
            while len(self._prepared) > KEPT_PREPARED:
                self._release(self._prepared.pop(min(self._prepared)))

    def _signatures(self, running: Running) -> list[int]:
        return [s for s in running.activation.prepared.signatures.values() if s is not None]

    def _release(self, running: Running) -> None:
        self._host.store.release(self._signatures(running))

    def activate(self, revision: Revision) -> Future[int]:
        """See `engine.protocol.Runner.activate`."""
        with self._switching:
            running = self._prepared.pop(revision.number, None)
            if running is None:
                raise EngineError(
                    f"revision {revision.number} is not prepared any more", hint="prepare the workflow again"
                )
            running.previous = self._current
            if running.previous is not None and running.previous.previous is not None:
                self._release(running.previous.previous)
                running.previous.previous = None
            self._current = running
        self._lanes.follow(running)
        return running.first_frame

    # --- frames

    def submit(self, frame: Input) -> bool:
        """See `engine.protocol.Runner.submit`."""
        if self._closed:
            raise Closed
        lane = Lane.VIDEO if isinstance(frame, VideoFrame) else Lane.AUDIO
        self._meter.submitted[lane] += 1
        if isinstance(frame, VideoFrame):
            self._newest = frame
        else:
            self._sample_rate = frame.sample_rate
        current = self._current
        if current is None:
            self._meter.dropped["no_revision"] += 1
            return False
        if lane.value not in current.revision.gives:
            self._on_output(frame)  # the workflow puts out none of its own
        if lane.value not in current.revision.takes:
            return True
        return self._lanes.submit(lane, frame, self._meter)

    def tick(self, lane: Lane, frame: Input, io: LaneState) -> None:
        """One tick on a lane's thread: the revision is the one that is current now."""
        running = self._current
        compiled = running.activation.lanes.get(lane) if running is not None else None
        if running is None or compiled is None:
            self._meter.dropped["no_revision"] += 1
            return
        frame.stamps.entered = time.monotonic_ns()
        began = time.perf_counter_ns()
        try:
            done = self._tick_once(running, compiled, frame, io, began)
        except NodeError as error:
            self._failed(running, lane, frame, io, error)
            return
        if done and not running.is_settled:
            self._proved(running, lane, frame)
        if not io.emitter.is_pipelined:
            self._meter.tick(lane, time.perf_counter_ns() - began)

    def _tick_once(self, running: Running, tick: LaneTick, frame: Input, io: LaneState, began: int) -> bool:
        plan, meter = tick.plan, self._meter
        value = mask = None
        if plan.reads_frame:
            value = io.read(frame, self._places is not None and running.activation.frame_is_for_host(plan))
            read = time.perf_counter_ns()
            meter.convert_ns += read - began
            began = read
        if plan.reads_mask:
            mask = empty_mask(self._host.backend)
        try:
            values = tick.run(value, mask)
        finally:
            meter.graph_ns += time.perf_counter_ns() - began
        if values is None:
            meter.dropped["waiting_for_other_lane"] += 1
            return False
        try:
            io.emitter.put(running, plan.outputs, values, frame, io.duration)
        except (EngineError, MediaError) as error:
            output = next(o for o in plan.outputs if error.node_id in (None, o.node_id))
            class_type = running.activation.plan.workflow.nodes[output.node_id].class_type
            raise NodeError(error.message, node_id=output.node_id, class_type=class_type, hint=error.hint) from error
        return True

    def _proved(self, running: Running, lane: Lane, frame: Input) -> None:
        with self._switching:
            previous, running.previous = running.previous, None
            running.is_settled = True
        if previous is not None:
            self._release(previous)
        self.send(Activated(running.revision.number, lane, frame.id))
        running.first_frame.set_result(frame.id)

    def _failed(self, running: Running, lane: Lane, frame: Input, io: LaneState, error: NodeError) -> None:
        self._meter.failed += 1
        event = self._failures.failed(error, frame=frame.id, lane=lane, revision=running.revision.number)
        if event is not None:
            self.send(event)
        if self._roll_back(running, error):
            self.tick(lane, frame, io)
        elif self._options.on_error is FailPolicy.STOP:
            io.emitter.flush()
            self.stop(error)
        else:
            if not running.is_settled:
                self._proved(running, lane, frame)
            io.emitter.put_failed(running, error, frame, self._options.on_error)

    def _roll_back(self, running: Running, error: NodeError) -> bool:
        """Go back to the revision before, if this one has not made a frame yet."""
        with self._switching:
            previous = running.previous
            if previous is None or running.is_settled or self._current is not running:
                return False
            self._current = previous
            running.is_settled = True
        self._release(running)
        self.send(RolledBack(running.revision.number, previous.revision.number, str(error)))
        running.first_frame.set_exception(error)
        return True

    def set_fail_policy(self, policy: FailPolicy) -> None:
        """See `engine.protocol.Runner.set_fail_policy`."""
        self._options = replace(self._options, on_error=policy)

    def blocked(self, step: Step, message: str, revision: int) -> None:
        """A node did not run in a tick, because of a blocker with a message."""
        event = self._failures.blocked(step.display_id, step.spec.key, message, revision)
        if event is not None:
            self.send(event)

    # --- the end

    def send(self, event: Event) -> None:
        """Pass an event on."""
        self._on_event(event)

    def output(self, frame: Frame) -> None:
        """Pass a frame on."""
        self._on_output(frame)

    def new_lane_states(self, lanes: Iterable[Lane]) -> dict[Lane, LaneState]:
        """What one thread owns, for each lane that ticks on it."""
        return make_states(tuple(lanes), self._host, self._meter, self.output, self.enter_thread, self.crashed)

    def enter_thread(self) -> None:
        """Called first on every thread that runs nodes."""
        logs.enter(self._options.name)
        self._host.enter_thread(lambda: self._closed, self._on_event)

    @property
    def current(self) -> Running | None:
        """The revision that ticks now."""
        return self._current

    @property
    def options(self) -> RunnerOptions:
        """How this run treats its frames."""
        return self._options

    @property
    def is_closed(self) -> bool:
        """Whether the run has ended or is ending."""
        return self._closed

    @property
    def error(self) -> ComfyStreamError | None:
        """Why the run ended by itself, if it did."""
        return self._error

    def crashed(self, error: BaseException) -> None:
        """A lane thread met something that no node raised: the run ends with it."""
        if isinstance(error, ComfyStreamError):
            self.stop(error)
            return
        _log.error("a lane thread failed", exc_info=error)
        hint = "this is a defect of ComfyStream; the log has the details"
        self.stop(EngineError(f"{type(error).__name__}: {error}", hint=hint))

    def stop(self, error: ComfyStreamError) -> None:
        """End the run because of an error."""
        self._error = error
        self._closed = True
        self._lanes.close_inputs(discard=True)
        self.send(Stopped(str(error)))

    def finish(self, timeout_s: float | None = None) -> bool:
        """See `engine.protocol.Runner.finish`."""
        self._lanes.close_inputs(discard=False)
        done = self._lanes.join(timeout_s)
        if self._error is not None:
            raise self._error
        return done

    def stats(self) -> RunnerStats:
        """See `engine.protocol.Runner.stats`."""
        current = self._current
        return self._meter.stats(current.activation if current is not None else None)

    def close(self) -> None:
        """See `engine.protocol.Runner.close`."""
        already, self._closed = self._closed, True
        self._lanes.close_inputs(discard=True)
        self._lanes.join(CLOSE_S)
        self._preparing.close()
        with self._switching:
            kept = [*self._prepared.values()]
            self._prepared.clear()
            current, self._current = self._current, None
        for running in (*kept, *([current] if current is not None else [])):
            if not running.first_frame.done():
                running.first_frame.cancel()
            self._release(running)
        self._hold_attempt([])
        if not already:
            self.send(Stopped())
