"""Counters of one run, written by its threads and read by anybody."""

from __future__ import annotations

from collections import Counter, deque

from comfystream.engine.activation import Activation
from comfystream.engine.protocol import NodeTiming, RunnerStats
from comfystream.engine.step import Step
from comfystream.frames import Lane

__all__ = ["Meter", "node_timings"]

KEPT_TICKS = 1024


class Meter:
    """Counts what one run did. Each counter has one writer, so nothing is locked."""

    def __init__(self) -> None:
        self.submitted: Counter[Lane] = Counter()
        self.computed: Counter[Lane] = Counter()
        self.dropped: Counter[str] = Counter()
        self.failed = 0
        self.convert_ns = 0
        self.graph_ns = 0
        self.device_ns = 0
        self._ticks: dict[Lane, deque[int]] = {lane: deque(maxlen=KEPT_TICKS) for lane in Lane}

    def tick(self, lane: Lane, spent_ns: int) -> None:
        """A tick of `lane` took this long, conversion included."""
        self.computed[lane] += 1
        self._ticks[lane].append(spent_ns)

    def stats(self, activation: Activation | None) -> RunnerStats:
        """A snapshot."""
        return RunnerStats(
            submitted=dict(self.submitted),
            computed=dict(self.computed),
            dropped=dict(self.dropped),
            failed=self.failed,
            tick_ms={lane: tuple(spent / 1e6 for spent in list(ticks)) for lane, ticks in self._ticks.items() if ticks},
            convert_ms=self.convert_ns / 1e6,
            nodes=node_timings(activation) if activation is not None else (),
            graph_ms=(self.graph_ns + self.device_ns) / 1e6,
        )


def node_timings(activation: Activation) -> tuple[NodeTiming, ...]:
    """Time per node: static ones once, the others per lane."""
    timings = []
    for id in activation.prepared.run:
        step, spent_ms = activation.plan.steps.get(id), activation.prepared.spent_ns.get(id, 0) / 1e6
        if step is not None:
            timings.append(NodeTiming(step.id, step.spec.key, step.title, "static", 1, spent_ms, spent_ms))
    for lane, tick in activation.lanes.items():
        for i, step in enumerate((*tick.plan.steps, *tick.plan.on_demand)):
            calls = tick.calls_of(i)
            if calls:
                times = tick.total_ns[i] / 1e6, tick.max_ns[i] / 1e6
                timings.append(_live_timing(activation, step, lane.value, calls, *times))
    return tuple(timings)


def _live_timing(
    activation: Activation, step: Step, where: str, calls: int, total_ms: float, max_ms: float
) -> NodeTiming:
    moved_bytes, moved_ns = activation.binder.moved(step)
    return NodeTiming(
        step.id,
        step.spec.key,
        step.title,
        where,
        calls,
        total_ms,
        max_ms,
        place=activation.binder.shown_place(step),
        moved_bytes=moved_bytes,
        moved_ms=moved_ns / 1e6,
    )
