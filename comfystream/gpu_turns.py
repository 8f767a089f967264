"""Turns at the GPU: while one thread records a CUDA graph, no thread waits for the whole device.

CUDA forbids to wait for a device while one of its streams is being recorded: the call that waits fails, and it breaks
the recording, on whatever threads the two are (cudaErrorStreamCaptureUnsupported, NVIDIA/TensorRT issue 2888). torch
records one graph at a time in a process, and refuses to give its cached memory back meanwhile. So who records does it
in a `recording`, and who waits for the whole device, or calls what may, does it in `device_wide`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

__all__ = ["device_wide", "give_way", "recording"]

LOOK_S = 0.5


class _Turns:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiters = 0
        self._wanting = 0
        self._recorder: int | None = None
        self._own = threading.local()

    @contextlib.contextmanager
    def device_wide(self) -> Iterator[None]:
        held = getattr(self._own, "held", 0)
        me = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: held or self._recorder in (None, me))
            self._waiters += 1
        self._own.held = held + 1
        try:
            yield
        finally:
            self._own.held = held
            with self._changed:
                self._waiters -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def recording(self, on_wait: Callable[[], None]) -> Iterator[None]:
        held = getattr(self._own, "held", 0)
        with self._changed:
            self._wanting += 1
        try:
            while not self._begin(held):
                on_wait()
            try:
                yield
            finally:
                self._recorder = None
        finally:
            with self._changed:
                self._wanting -= 1
                self._changed.notify_all()

    def give_way(self) -> None:
        held = getattr(self._own, "held", 0)
        with self._changed:
            if not (held and self._wanting):
                return
            self._waiters -= held
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._wanting)
            self._waiters += held

    def _begin(self, held: int) -> bool:
        with self._changed:
            if not self._changed.wait_for(lambda: self._recorder is None and self._waiters == held, LOOK_S):
                return False
            self._recorder = threading.get_ident()
            return True


_turns = _Turns()


def device_wide() -> contextlib.AbstractContextManager[None]:
    """For what waits for the whole device, or may: many threads at once, while none records."""
    return _turns.device_wide()


def give_way() -> None:
    """Within `device_wide`, at a point where nothing waits for the device: who wants to record does it now."""
    _turns.give_way()


def recording(on_wait: Callable[[], None] = lambda: None) -> contextlib.AbstractContextManager[None]:
    """For recording a graph: one thread, while no other is in `device_wide`. Not within another recording.

    Args:
        on_wait: called now and then while it waits for others, who may build an engine for minutes; what it raises
            ends the wait.
    """
    return _turns.recording(on_wait)
