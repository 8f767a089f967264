"""Whether anything is left behind: tasks, threads, descriptors, processes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

import psutil
from on_loop import until
from worker_harness import Worker


def _open_files() -> list[str]:
    found = []
    for one in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one of this very listing
            found.append(str(one.readlink()))
    return found


def _threads() -> Counter[str]:
    """By name, for an engine that came back has new ones; without the event loop's pool, which ends with the loop."""
    return Counter(one.name for one in threading.enumerate() if not one.name.startswith("asyncio_"))


def _processes() -> int:
    living = [one for one in psutil.Process().children(recursive=True) if one.status() != psutil.STATUS_ZOMBIE]
    return len(living)


def _said(things: Iterable[object]) -> str:
    return ", ".join(sorted(map(str, things)))


@contextlib.asynccontextmanager
async def nothing_is_left(worker: Worker) -> AsyncIterator[None]:
    """At the end the worker is idle, and tasks, threads, descriptors and child processes are as before."""
    gc.collect()
    tasks, threads, files, processes = asyncio.all_tasks(), _threads(), _open_files(), _processes()
    yield
    await worker.until_idle()
    await _until(lambda: asyncio.all_tasks() <= tasks, lambda: f"tasks: {_said(asyncio.all_tasks() - tasks)}")
    await _until(lambda: _threads() <= threads, lambda: f"threads: {_said(_threads() - threads)}")
    await _until(lambda: gc.collect() is not None and len(_open_files()) <= len(files), lambda: _more(files))
    await _until(lambda: _processes() <= processes, lambda: f"{_processes()} processes, {processes} before")


def _more(before: list[str]) -> str:
    now = _open_files()
    return f"{len(now)} files, {len(before)} before: {_said(set(now) - set(before))}"


async def _until(holds: Callable[[], bool], words: Callable[[], str]) -> None:
    try:
        await until(holds, "")
    except AssertionError:
        raise AssertionError(f"left behind: {words()}") from None
