"""The last picture of a source that is over: it goes through the workflow on and on, slowly.

Without it a value that is changed would not be seen, and a viewer who comes later, or lost a packet, would see nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from comfystream.clock import Clock, SystemClock, rescale
from comfystream.frames import Stamps, VideoFrame

__all__ = ["Still"]

EVERY_S = 0.5
_NANO = Fraction(1, 1_000_000_000)


class Still:
    """Shows a picture again.

    Args:
        submit: takes it.
        clock: says what time it is.
        every_s: how long there is nothing in between.
    """

    def __init__(
        self, submit: Callable[[VideoFrame], None], clock: Clock | None = None, every_s: float = EVERY_S
    ) -> None:
        self._submit = submit
        self._clock: Clock = clock or SystemClock()
        self._every_s = every_s
        self._last: tuple[VideoFrame, int] | None = None
        self._newest_pts = 0
        self._task: asyncio.Task[None] | None = None

    def note(self, frame: VideoFrame) -> None:
        """A picture has come."""
        self._last, self._newest_pts = (frame, self._clock.now_ns()), frame.pts

    def begin(self) -> None:
        """No more will come: show the last one on. Idempotent."""
        if self._task is None and self._last is not None:
            self._task = asyncio.create_task(self._run(), name="still")

    def again(self) -> None:
        """Show it now, if it is being shown; something about it may have changed."""
        if self._task is not None:
            self._show()

    def end(self) -> None:
        """Something else is shown now. Idempotent."""
        self._last = None
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            self._show()

    def _show(self) -> None:
        assert self._last is not None
        frame, came_ns = self._last
        now_ns = self._clock.now_ns()
        pts = frame.pts + rescale(now_ns - came_ns, _NANO, frame.time_base)
        self._newest_pts = max(pts, self._newest_pts + 1)  # two within one tick of a coarse time base
        stamps = Stamps(captured=now_ns, decoded=now_ns)
        self._submit(replace(frame, pts=self._newest_pts, stamps=stamps))
