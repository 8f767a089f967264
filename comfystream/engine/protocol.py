"""What an engine is to its callers, whether it runs in this process or in a child: one protocol, one test suite.

All of it may be called from any thread. Answers that take time are `concurrent.futures.Future`s; asyncio callers wrap
them (`asyncio.wrap_future`). Outputs and events (`engine/events.py`) arrive as callbacks on threads of the engine; an
output callback that blocks holds its lane back, which is how a file sink slows the engine down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from comfystream.catalog.comfyui import ComfyUIOptions
from comfystream.catalog.standin import Folders
from comfystream.engine.events import OnEvent, PackBroken
from comfystream.engine.once_job import OnceDone, OnceJob
from comfystream.errors import EngineError
from comfystream.frames import AudioFrame, Frame, Lane, VideoFrame
from comfystream.workflow.check import Problem
from comfystream.workflow.model import Workflow

__all__ = [
    "Cancelled",
    "Engine",
    "EngineOptions",
    "FailPolicy",
    "NodeTiming",
    "OnOutput",
    "Revision",
    "Runner",
    "RunnerOptions",
    "RunnerStats",
]


class Cancelled(EngineError):
    """A revision was withdrawn while it was being prepared."""

    default_code = "cancelled"


class FailPolicy(StrEnum):
    """What a viewer gets for a frame whose node raised."""

    HOLD = "hold"  # the last good picture
    SLATE = "slate"  # a picture that says what is wrong
    PASSTHROUGH = "passthrough"  # the input, untouched
    STOP = "stop"  # the run ends with the error


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """How one run treats its frames.

    Attributes:
        live: True: a picture that arrives while the graph is busy replaces the waiting one (newest wins), lanes tick on
            their own threads. False (files): `submit` waits, nothing is dropped, and lanes tick in the order of
            submission on one thread, so that a result does not depend on timing.
        on_error: what to put out for a frame whose node raised.
        clock_fps: ticks per second of a workflow without an input; 0 = as fast as it can (files).
        clock_ticks: stop the clock after so many ticks; None = never.
        profile: measure time per node.
        name: of the session, for the log.
    """

    live: bool = True
    on_error: FailPolicy = FailPolicy.HOLD
    clock_fps: float = 30.0
    clock_ticks: int | None = None
    profile: bool = True
    name: str = ""


@dataclass(frozen=True, slots=True)
class Revision:
    """A prepared workflow: checked, compiled, its static nodes run, warmed.

    Attributes:
        number: counts from 1 in each run.
        lanes: which lanes it ticks.
        takes: modalities it reads ("video", "audio").
        gives: modalities it puts out ("video", "audio", "text").
        prepare_ms: how long preparing took.
        nodes_run: ids of static nodes that were run for it; those kept from earlier revisions are not in it.
    """

    number: int
    lanes: tuple[Lane, ...]
    takes: frozenset[str]
    gives: frozenset[str]
    prepare_ms: float
    nodes_run: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NodeTiming:
    """Time spent in one node.

    Attributes:
        where: "static" (run once), "video", "audio" or "clock".
        total_ms, max_ms: for a node on a GPU, the time to give it its work, not the time that the GPU takes.
        place: when frames are on a device: "cuda" for a node whose pictures are there, "host" for one whose pictures
            are on the host, empty for one without.
        moved_bytes, moved_ms: in all calls, what was brought to or from the device for it, and how long that took,
            which is part of `total_ms`.
    """

    node_id: str
    class_type: str
    title: str
    where: str
    calls: int
    total_ms: float
    max_ms: float
    place: str = ""
    moved_bytes: int = 0
    moved_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class RunnerStats:
    """Counters of one run since it was opened.

    Attributes:
        submitted, computed: frames per lane.
        dropped: by reason ("newest_wins", "paused", "no_revision", "engine_restart", ...).
        failed: ticks in which a node raised.
        tick_ms: per lane, the last up to 1024 tick durations in milliseconds (conversion in and out included).
        convert_ms: total milliseconds spent on pixel conversion, in and out.
        nodes: time per node of the active revision, in execution order.
        graph_ms: total milliseconds spent in the graphs: the nodes and what the engine does between them, and waiting
            for a GPU.
    """

    submitted: Mapping[Lane, int]
    computed: Mapping[Lane, int]
    dropped: Mapping[str, int]
    failed: int
    tick_ms: Mapping[Lane, tuple[float, ...]]
    convert_ms: float
    nodes: tuple[NodeTiming, ...]
    graph_ms: float = 0.0


class Runner(Protocol):
    """One run in an engine: its revision, its lanes, its counters."""

    def prepare(self, workflow: Workflow, sample: VideoFrame | tuple[int, int] = (512, 512)) -> Future[Revision]:
        """Check, compile, run what is static, warm; beside the active revision, which keeps its pace.

        Args:
            workflow: what to run.
            sample: a real frame, or the width and height of the frames to come. Once frames have come, the newest one
                is used instead.

        The future raises WorkflowError, NodeError or EngineError; the active revision is then as it was.
        """
        ...

    def withdraw(self) -> Future[bool]:
        """What is being prepared ends before its next node, or where a node next says what it does (at each step of a
        build): its future raises `Cancelled`. Gives whether anything was being prepared. The active revision goes on.
        """
        ...

    def activate(self, revision: Revision) -> Future[int]:
        """Switch to `revision` at the next frame border; the future gives the id of its first frame."""
        ...

    def submit(self, frame: VideoFrame | AudioFrame) -> bool:
        """Hand over an input. Live: never waits, False when an older frame was dropped for it. Files: waits for room.

        Raises:
            Closed: the run has ended.
        """
        ...

    def set_fail_policy(self, policy: FailPolicy) -> None:
        """What to put out for frames whose node raises from now on; replaces `RunnerOptions.on_error`."""
        ...

    def finish(self, timeout_s: float | None = None) -> bool:
        """No more input: flush what is in flight and wait until all of it has come out. False after `timeout_s`."""
        ...

    def stats(self) -> RunnerStats:
        """Counters so far."""
        ...

    def close(self) -> None:
        """End the run, dropping what is in flight. Idempotent, bounded in time."""
        ...


OnOutput = Callable[[Frame], None]


class Engine(Protocol):
    """Hosts node classes and any number of runs."""

    @property
    def is_lost(self) -> bool:
        """Whether it has ended and does not come back by itself."""
        ...

    def object_info(self) -> Mapping[str, Any]:
        """The node classes in ComfyUI's `/object_info` shape."""
        ...

    def broken_packs(self) -> tuple[PackBroken, ...]:
        """Packs that could not be loaded."""
        ...

    def check(self, workflow: Workflow) -> list[Problem]:
        """Static problems of a workflow; nothing is run."""
        ...

    def open(self, options: RunnerOptions, on_output: OnOutput, on_event: OnEvent) -> Runner:
        """A new run without a revision; waits while the engine is started again. EngineError: it does not come back."""
        ...

    def run_once(self, id: int, job: OnceJob, on_event: OnEvent) -> Future[OnceDone]:
        """Run a workflow once, beside the live runs and after the jobs that were given before.

        Args:
            id: the caller's name for it, not in use by another job.
            job: what to run.
            on_event: gets `Progress` events of revision 0, phase "run", and then "write".

        The future raises WorkflowError (it cannot run as it is), NodeError (a node raised), OnceStopped or EngineDied.
        """
        ...

    def stop_once(self, id: int) -> None:
        """End a job before its next node, or at the next step of a node that tells its progress. Returns at once."""
        ...

    def close(self) -> None:
        """End all runs and free what they hold. Idempotent, bounded in time."""
        ...


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What an engine loads.

    Attributes:
        pack_folders: folders of custom node packs (each entry of such a folder is a pack).
        packs: single packs (a folder or a .py file each).
        allow_packs: names of the packs to load; empty means all.
        block_packs: names of packs to leave out.
        threads: torch's intra-op threads; 0 = torch's own choice.
        folders: what nodes get from `folder_paths`.
        comfyui: a ComfyUI checkout to load: its nodes, its packs, its model folders. None: the bundled nodes alone.
        frames_on: where pictures are while nodes work on them: "auto" (a GPU if there is one), "host" or "cuda".
    """

    pack_folders: tuple[str, ...] = ()
    packs: tuple[str, ...] = ()
    allow_packs: tuple[str, ...] = ()
    block_packs: tuple[str, ...] = ()
    threads: int = 0
    folders: Folders = field(default_factory=Folders)
    comfyui: ComfyUIOptions | None = None
    frames_on: str = "auto"
