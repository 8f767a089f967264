"""Where the time of a job goes: who was busy with what, and which stage the others waited for."""

from __future__ import annotations

import time
from dataclasses import dataclass

from comfystream.clock import Clock
from comfystream.engine.protocol import NodeTiming, RunnerStats

__all__ = ["CountingClock", "Stage", "StageClock", "node_share", "slowest", "stages"]

THREADS = (("decode",), ("convert", "graph"), ("encode",))
MOSTLY = 0.5


@dataclass(slots=True)
class StageClock:
    """Nanoseconds per activity; each field is written by one thread.

    Attributes:
        decode: reading and decoding the source.
        pace: holding frames back in real time.
        feed: waiting until the graph takes a frame.
        hold: the graph waiting until the encoder takes a frame.
        encode: encoding and writing.
        idle: the encoder waiting for the graph.
    """

    decode: int = 0
    pace: int = 0
    feed: int = 0
    hold: int = 0
    encode: int = 0
    idle: int = 0


class CountingClock:
    """A clock that notes how long was slept: that time is no work of the thread that sleeps.

    Args:
        clock: the real one.
        meter: its `pace` is written.
    """

    def __init__(self, clock: Clock, meter: StageClock) -> None:
        self._clock = clock
        self._meter = meter

    def now_ns(self) -> int:
        """See `clock.Clock`."""
        return self._clock.now_ns()

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """See `clock.Clock`."""
        began = time.perf_counter_ns()
        self._clock.sleep_until_ns(deadline_ns)
        self._meter.pace += time.perf_counter_ns() - began


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a job.

    Attributes:
        name: "prepare", "decode", "convert", "graph" or "encode".
        total_ms: time spent working, waiting left out.
        frames: how many frames that was for.
        share: working time as a part of the run's time, 0..1; stages overlap, so the shares do not add up to 1.
        waited_ms: time its thread waited for another stage, as far as it was measured here.
    """

    name: str
    total_ms: float
    frames: int
    share: float
    waited_ms: float = 0.0

    @property
    def mean_ms(self) -> float:
        """Milliseconds per frame."""
        return self.total_ms / self.frames if self.frames else 0.0


def stages(
    clock: StageClock, stats: RunnerStats, *, prepare_ms: float, run_ms: float, read: int, written: int
) -> tuple[Stage, ...]:
    """The stages of a finished run.

    Args:
        clock: what the job's threads measured.
        stats: what the engine measured.
        prepare_ms: loading and running what is static, before the first frame.
        run_ms: from the first frame to the last, by the clock on the wall.
        read, written: frames in and out.
    """
    computed = sum(stats.computed.values())

    def stage(name: str, total_ms: float, frames: int, waited_ns: int = 0) -> Stage:
        return Stage(name, total_ms, frames, total_ms / run_ms if run_ms > 0 else 0.0, waited_ns / 1e6)

    return (
        Stage("prepare", prepare_ms, 0, 0.0),
        stage("decode", clock.decode / 1e6, read, clock.feed + clock.pace),
        stage("convert", stats.convert_ms, computed),
        stage("graph", stats.graph_ms, computed, clock.hold),
        stage("encode", clock.encode / 1e6, written, clock.idle),
    )


def slowest(found: tuple[Stage, ...]) -> Stage | None:
    """The stage that the others wait for; None when none was busy most of its time (a paced input).

    Conversion and graph share a thread, so they are weighed together; of the two the longer one is named.
    """
    by_name = {stage.name: stage for stage in found}
    threads = [[by_name[name] for name in names if name in by_name] for names in THREADS]
    busy = max(threads, key=lambda stages: sum(stage.share for stage in stages), default=[])
    if sum(stage.share for stage in busy) < MOSTLY:
        return None
    return max(busy, key=lambda stage: stage.share)


def node_share(node: NodeTiming, nodes: tuple[NodeTiming, ...]) -> float:
    """A node's part of the time of all live (or all static) nodes, 0..1."""
    is_static = node.where == "static"
    total = sum(other.total_ms for other in nodes if (other.where == "static") is is_static)
    return node.total_ms / total if total else 0.0
