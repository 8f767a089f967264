"""The thread on which a run's revisions are prepared, one after the other. Each may be withdrawn."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from comfystream.engine.events import OnEvent
from comfystream.engine.progress import PrepareProgress, Withdrawn
from comfystream.engine.protocol import Cancelled, Revision

__all__ = ["Preparations"]

Work = Callable[[PrepareProgress], Revision]


class Preparations:
    """Prepares in turn.

    Args:
        enter_thread: called first on the thread.
        on_event: gets the progress.
    """

    def __init__(self, enter_thread: Callable[[], None], on_event: OnEvent) -> None:
        self._on_event = on_event
        self._numbers = itertools.count(1)
        self._asked: list[PrepareProgress] = []
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="prepare", initializer=enter_thread)

    def submit(self, work: Work) -> Future[Revision]:
        """Call `work` with its progress, which has its number, when it is its turn."""
        progress = PrepareProgress(next(self._numbers), self._on_event)
        self._asked.append(progress)
        future = self._pool.submit(_unless_withdrawn, work, progress)
        future.add_done_callback(lambda done: self._asked.remove(progress))
        return future

    def withdraw(self) -> Future[bool]:
        """What is being prepared, or waits for it, ends at its next node or where a node next says what it does.

        Returns:
            Whether there was anything.
        """
        asked = [*self._asked]
        for progress in asked:
            progress.withdraw()
        answer: Future[bool] = Future()
        answer.set_result(bool(asked))
        return answer

    def close(self) -> None:
        """Prepare nothing more; returns at once."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _unless_withdrawn(work: Work, progress: PrepareProgress) -> Revision:
    try:
        progress.check()
        return work(progress)
    except Withdrawn:
        raise Cancelled("it was cancelled while it was being prepared", hint="what ran before goes on") from None
