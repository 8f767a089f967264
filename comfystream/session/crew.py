"""The threads of a job: the first that fails ends it, and whoever started them waits for all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["Crew"]


class Crew:
    """Threads with one owner.

    Attributes:
        error: what the first failing thread raised; None while all is well.
    """

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self.error: BaseException | None = None

    def start(self, name: str, work: Callable[[], None], then: Callable[[], None] = lambda: None) -> None:
        """Run `work` on a thread; `then` follows when it has ended or failed."""
        thread = threading.Thread(target=self._run, args=(work, then), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self, work: Callable[[], None], then: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - task scope: raised again by the owner
            with self._lock:
                self.error = self.error or error
        finally:
            then()
            self._changed.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait until all have ended, `timeout_s` has passed or one of them ends. True when all have ended."""
        if self._changed.wait(timeout_s):
            self._changed.clear()
        return not any(thread.is_alive() for thread in self._threads)

    def join(self, timeout_s: float) -> bool:
        """Wait until all have ended; False after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))
        return not any(thread.is_alive() for thread in self._threads)
