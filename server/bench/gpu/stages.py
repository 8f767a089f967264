"""How long the parts of a tick take, by the device's own clock."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["Stages"]


class Stages:
    """Takes the time around functions.

    A part within a part is taken off the outer one. On a GPU the times are events in its stream, read at the end.

    Args:
        device: "cuda" or "cpu".
    """

    def __init__(self, device: str) -> None:
        self._is_cuda = device.startswith("cuda")
        self._spans: list[tuple[str, str, Any, Any]] = []
        self._open: list[str] = []

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its time taken under a name."""

        def run(*arguments: Any, **named: Any) -> Any:
            outer = self._open[-1] if self._open else ""
            self._open.append(name)
            begin = self._now()
            try:
                return function(*arguments, **named)
            finally:
                self._spans.append((name, outer, begin, self._now()))
                self._open.pop()

        return run

    def on(self, owner: Any, method: str, name: str) -> None:
        """Take the time of a method of an object, from now on."""
        setattr(owner, method, self.timed(name, getattr(owner, method)))

    def table(self, ticks: int) -> dict[str, float]:
        """Milliseconds per tick by name."""
        if self._is_cuda:
            torch.cuda.synchronize()
        found: dict[str, float] = defaultdict(float)
        for name, outer, begin, end in self._spans:
            taken = self._between(begin, end) / ticks
            found[name] += taken
            if outer:
                found[outer] -= taken
        return dict(found)

    def _now(self) -> Any:
        if not self._is_cuda:
            return time.perf_counter()
        event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def _between(self, begin: Any, end: Any) -> float:
        return float(begin.elapsed_time(end)) if self._is_cuda else (end - begin) * 1000
