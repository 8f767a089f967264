"""The thread that reads the source and feeds the graph."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from comfystream.channels import Closed
from comfystream.clock import Clock
from comfystream.engine.protocol import Runner
from comfystream.errors import MediaError
from comfystream.frames import VideoFrame
from comfystream.session.options import FileJobOptions
from comfystream.session.pace import FrameLimit, Input, Pacer, RateConverter
from comfystream.session.ports import Source
from comfystream.session.stages import StageClock

__all__ = ["Feeder"]


class Feeder:
    """Reads, paces and submits until the source ends; then flushes the graph.

    Args:
        source: where frames come from; None for a workflow that ticks by itself.
        runner: what they are submitted to.
        options: rate, limits and pace.
        meter: its own fields are written.
        clock: paces `realtime`.
        stopped: set by others to end early.
    """

    def __init__(
        self,
        source: Source | None,
        runner: Runner,
        options: FileJobOptions,
        meter: StageClock,
        clock: Clock,
        stopped: threading.Event,
    ) -> None:
        self._source = source
        self._runner = runner
        self._limit = FrameLimit(options.duration_s, options.frames)
        self._rate = RateConverter(options.fps) if options.fps is not None and source is not None else None
        self._pacer = Pacer(clock) if options.realtime else None
        self._meter = meter
        self._stopped = stopped
        self._ahead: Input | None = None
        self._frames = self._timed(source) if source is not None else iter(())
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
            for frame in self._wanted():
                self._submit(frame)
        except Closed:
            pass  # the engine ended the run: finish says why
        except MediaError as error:
            self.broken = error
        self._runner.finish()

    def _wanted(self) -> Iterator[Input]:
        for frame in self._whole():
            if self._stopped.is_set() or not self._limit.admits(frame):
                return
            yield frame

    def _whole(self) -> Iterator[Input]:
        for frame in self._raw():
            if self._rate is not None and isinstance(frame, VideoFrame):
                yield from self._rate.add(frame)
            else:
                yield frame
        if self._rate is not None:
            yield from self._rate.flush()

    def _raw(self) -> Iterator[Input]:
        if self._ahead is not None:
            first, self._ahead = self._ahead, None
            yield first
        yield from self._frames

    def _timed(self, source: Source) -> Iterator[Input]:
        """The source's frames; the time to make them is counted."""
        frames = source.frames()
        while True:
            began = time.perf_counter_ns()
            frame = next(frames, None)
            self._meter.decode += time.perf_counter_ns() - began
            if frame is None:
                return
            self.read += isinstance(frame, VideoFrame)
            yield frame

    def _submit(self, frame: Input) -> None:
        began = time.perf_counter_ns()
        if self._pacer is not None:
            self._pacer.wait(frame)
        paced = time.perf_counter_ns()
        self._runner.submit(frame)
        self._meter.pace += paced - began
        self._meter.feed += time.perf_counter_ns() - paced


