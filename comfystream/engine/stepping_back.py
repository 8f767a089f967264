"""What is prepared beside a stream leaves it the processor."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path

__all__ = ["can_step_back", "stepping_back"]

STEP = 6  # of niceness: a quarter of the share where there is not enough for all; single runs have another and keep it


@contextlib.contextmanager
def stepping_back(*, wanted: bool = True) -> Iterator[None]:
    """Make the calling thread nicer for a while, on Linux, where a thread can be nice by itself.

    A load that computes keeps a core to itself; a lane that wakes up there would wait for the scheduler's next tick, at
    each of the places where it lets go of the interpreter. Threads that a node starts meanwhile inherit the niceness
    and may be a model's for good, so they get back what they would have had. Where that is not allowed, nothing is
    done.
    """
    if not (wanted and can_step_back()):
        yield
        return
    own, before = threading.get_native_id(), _threads()
    usual = _niceness(own)
    nicer = min(usual + STEP, 19)
    os.setpriority(os.PRIO_PROCESS, own, nicer)
    try:
        yield
    finally:
        for id in (own, *(_threads() - before)):
            with contextlib.suppress(OSError):  # it has ended
                if _niceness(id) == nicer:
                    os.setpriority(os.PRIO_PROCESS, id, usual)


@cache
def can_step_back() -> bool:
    """Whether a thread that was made nicer may be made as before: tried on one that does nothing else.

    It takes the capability SYS_NICE, or a limit for niceness of 20 (`ulimit -e 20`, `docker run --ulimit nice=20`).
    """
    if sys.platform != "linux":
        return False
    allowed: list[bool] = []
    thread = threading.Thread(target=lambda: allowed.append(_goes_there_and_back()), name="try-niceness")
    thread.start()
    thread.join()
    return allowed == [True]


def _goes_there_and_back() -> bool:
    own = threading.get_native_id()
    usual = _niceness(own)
    try:
        os.setpriority(os.PRIO_PROCESS, own, usual + 1)
        os.setpriority(os.PRIO_PROCESS, own, usual)
    except OSError:
        return False
    return _niceness(own) == usual


def _niceness(thread: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, thread)


def _threads() -> set[int]:
    """Of this process, by the system's ids."""
    return {int(task.name) for task in Path("/proc/self/task").iterdir()}
