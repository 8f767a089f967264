"""Counts of batch requests, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Figures"]

BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Figures:
    """Made once per worker.

    Args:
        waiting: how many requests wait.
        is_busy: whether one runs.
    """

    def __init__(self, waiting: Callable[[], int], is_busy: Callable[[], bool]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "comfystream_batch_requests", "Batch requests by status of the answer", ["status"], registry=self._registry
        )
        self._seconds = Histogram(
            "comfystream_batch_seconds",
            "Time from a batch request to its answer",
            buckets=BUCKETS,
            registry=self._registry,
        )
        gauges = {"waiting": waiting, "running": lambda: int(is_busy())}
        for name, read in gauges.items():
            Gauge(f"comfystream_batch_{name}", f"Batch requests {name}", registry=self._registry).set_function(read)

    def answered(self, status: int, seconds: float) -> None:
        """A request has got its answer."""
        self._requests.labels(str(status)).inc()
        self._seconds.observe(seconds)

    def text(self) -> bytes:
        """All of them."""
        return generate_latest(self._registry)
