"""What takes long is done beside the frame loop, which goes on with what it has until it is ready."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from comfystream.errors import BusyError
from comfystream.node_progress import listening, report

__all__ = ["Beside"]


class Beside:
    """One piece of work, on a thread of its own.

    Args:
        work: what is done, in inference mode.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._is_unwanted = threading.Event()
        self._said = ("", 0.0, 0.0)
        self._told = self._said
        pool = ThreadPoolExecutor(1, thread_name_prefix="prepare-stream")
        self._future: Future[None] = pool.submit(self._run)
        pool.shutdown(wait=False)  # the thread ends with its work

    @property
    def is_done(self) -> bool:
        """Whether `result` gives or raises at once."""
        return self._future.done()

    def tell(self) -> None:
        """Report on the caller's thread what is being done, if it is something new; nothing more once it is done."""
        said = ("", 0.0, 0.0) if self.is_done else self._said
        if said != self._told:
            self._told = said
            report(*said)

    def result(self, timeout_s: float | None = None) -> None:
        """Wait for it.

        Raises:
            BaseException: what the work raised.
        """
        self._future.result(timeout_s)

    def stop(self) -> None:
        """Its result is no longer wanted: it ends where it next says what it does."""
        self._is_unwanted.set()
        if self._told[0]:
            self._told = ("", 0.0, 0.0)
            report(*self._told)

    def _run(self) -> None:
        with torch.inference_mode(), listening(self._heard):
            self._work()

    def _heard(self, message: str, value: float, maximum: float) -> None:
        if self._is_unwanted.is_set():
            raise BusyError("other settings have come in", code="cancelled")
        self._said = (message, value, maximum)
