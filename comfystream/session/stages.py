"""Where the time of a job goes: who was busy with what, and which stage the others waited for."""

from __future__ import annotations

from dataclasses import dataclass

from comfystream.engine.protocol import NodeTiming, RunnerStats

__all__ = ["Stage", "StageClock", "slowest", "stages"]


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


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a job.

    Attributes:
        name: "prepare", "decode", "convert", "graph" or "encode".
        total_ms: time spent working, waiting left out.
        frames: how many frames that was for.
        share: working time as a part of the run's time, 0..1; stages overlap, so the shares do not add up to 1.
    """

    name: str
    total_ms: float
    frames: int
    share: float

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
    graph_ms = sum(node.total_ms for node in stats.nodes if node.where != "static")

    def stage(name: str, total_ms: float, frames: int) -> Stage:
        return Stage(name, total_ms, frames, total_ms / run_ms if run_ms > 0 else 0.0)

    return (
        Stage("prepare", prepare_ms, 0, 0.0),
        stage("decode", clock.decode / 1e6, read),
        stage("convert", stats.convert_ms, computed),
        stage("graph", graph_ms, computed),
        stage("encode", clock.encode / 1e6, written),
    )


def slowest(found: tuple[Stage, ...], *, is_paced: bool = False) -> Stage | None:
    """The stage that sets the pace; None when nothing ran. Conversion happens on the graph's thread."""
    running = [stage for stage in found if stage.name != "prepare" and stage.share > 0]
    if not running or (is_paced and max(stage.share for stage in running) < 0.9):
        return None
    return max(running, key=lambda stage: stage.share)


def node_share(node: NodeTiming, nodes: tuple[NodeTiming, ...]) -> float:
    """A node's part of the time of all live (or all static) nodes, 0..1."""
    is_static = node.where == "static"
    total = sum(other.total_ms for other in nodes if (other.where == "static") is is_static)
    return node.total_ms / total if total else 0.0
