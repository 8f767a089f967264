"""Measuring on a machine that others use too: processor time, interleaved, medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

__all__ = ["Contestant", "interleaved_cpu_us"]

Contestant = Callable[[], object]


def interleaved_cpu_us(contestants: Sequence[Contestant], rounds: int, batch: int, warm_up: int = 20) -> list[float]:
    """Median processor time of the calling thread per call, in microseconds, one figure per contestant.

    All contestants are measured in each round, and each round begins with another one, so that what else the machine
    does hits all alike. A sample is `batch` calls: reading the clock costs as much as a short tick.
    """
    samples: list[list[int]] = [[] for _ in contestants]
    for turn in range(-warm_up, rounds):
        for i in range(len(contestants)):
            index = (turn + i) % len(contestants)
            spent = _cpu_ns(contestants[index], batch)
            if turn >= 0:
                samples[index].append(spent)
    return [statistics.median(taken) / batch / 1000 for taken in samples]


def _cpu_ns(call: Contestant, batch: int) -> int:
    began = time.thread_time_ns()
    for _ in range(batch):
        call()
    return time.thread_time_ns() - began
