"""The thread that reads the source and feeds the graph."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from comfystream.channels import Closed
from comfystream.engine.protocol import Runner
from comfystream.errors import MediaError
from comfystream.frames import VideoFrame
from comfystream.media.source import Source
from comfystream.session.limit import FrameLimit, Input
from comfystream.session.stages import StageClock

__all__ = ["Feeder"]


class Feeder:
    """Reads and submits until the source ends; then flushes the graph.

    Args:
        source: where frames come from; None for a workflow that ticks by itself.
        runner: what they are submitted to.
        limit: when enough was read.
        meter: its own fields are written.
        stopped: set by others to end early.

    Attributes:
        read: pictures that were read.
        broken: why the source ended early, if it did.
    """

    def __init__(
        self, source: Source | None, runner: Runner, limit: FrameLimit, meter: StageClock, stopped: threading.Event
    ) -> None:
        self._runner = runner
        self._limit = limit
        self._meter = meter
        self._stopped = stopped
        self._frames = self._timed(source) if source is not None else iter(())
        self._ahead: Input | None = None
        self.read = 0
        self.broken: MediaError | None = None

    def first(self) -> VideoFrame | None:
        """The first picture, which preparing wants to see; it is kept for the run. None when sound comes first.

        Raises:
            MediaError: the source cannot be decoded.
        """
        self._ahead = next(self._frames, None)
        return self._ahead if isinstance(self._ahead, VideoFrame) else None

    def run(self) -> None:
        """Feed until the source ends, breaks off (`broken` says so) or the run is over.

        Raises:
            ComfyStreamError: why the engine ended the run.
        """
        try:
            with contextlib.suppress(Closed):  # the engine ended the run: finish says why
                self._feed()
        except MediaError as error:
            self.broken = error
        if not self._stopped.is_set():
            self._runner.finish()

    def _feed(self) -> None:
        for frame in self._all():
            if self._stopped.is_set() or not self._limit.admits(frame):
                return
            began = time.perf_counter_ns()
            self._runner.submit(frame)
            self._meter.feed += time.perf_counter_ns() - began

    def _all(self) -> Iterator[Input]:
        if self._ahead is not None:
            first, self._ahead = self._ahead, None
            yield first
        yield from self._frames

    def _timed(self, source: Source) -> Iterator[Input]:
        """The source's frames; the time to make them is counted, without what was slept for the pace."""
        frames = source.frames()
        while True:
            began, paced = time.perf_counter_ns(), self._meter.pace
            frame = next(frames, None)
            self._meter.decode += time.perf_counter_ns() - began - (self._meter.pace - paced)
            if frame is None:
                return
            self.read += isinstance(frame, VideoFrame)
            yield frame
