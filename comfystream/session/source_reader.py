"""The thread that reads a chosen source, in real time, and opens it again when it is lost."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from fractions import Fraction

from comfystream.clock import rescale
from comfystream.errors import ComfyStreamError, MediaError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.media.source import Source
from comfystream.session.source_state import SourcePlan, SourceState

__all__ = ["Pacer", "SourceReader", "back_off_s"]

_log = logging.getLogger(__name__)
LATE_S, AHEAD_S = 0.5, 15.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 15.0
STEADY_S = 10.0
SEAM = Fraction(1, 25)


def back_off_s(attempt: int) -> float:
    """How long to wait before the attempt of this number, from 0: 0.5, 1, 2, ... 15 seconds."""
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(attempt, 10))


class Pacer:
    """When a frame is due, by its media time. Who comes far too late, or far too early, is the new beginning."""

    def __init__(self) -> None:
        self._start_s: float | None = None

    def wait_s(self, media_s: float, now_s: float) -> float:
        """Seconds until a frame of that media time is due."""
        wait = 0.0 if self._start_s is None else self._start_s + media_s - now_s
        if self._start_s is None or wait < -LATE_S or wait > AHEAD_S:
            self._start_s = now_s - media_s
            return 0.0
        return max(0.0, wait)


class SourceReader:
    """Reads one source until it ends or `stop` is called.

    Args:
        plan: what to read.
        deliver: takes the frames, on the thread.
        tell: hears states and their reasons, on the thread.

    Attributes:
        opened: done when the source is open, or has the error that it could not be opened for the first time.
    """

    def __init__(
        self,
        plan: SourcePlan,
        deliver: Callable[[VideoFrame | AudioFrame], None],
        tell: Callable[[SourceState, str], None],
    ) -> None:
        self._plan = plan
        self._deliver = deliver
        self._tell = tell
        self._stopped = threading.Event()
        self._gate = threading.Event()
        self._end = Fraction(0)
        self.opened: Future[None] = Future()
        self._thread = threading.Thread(target=self._main, name=f"source-{plan.name[:40]}", daemon=True)

    def start(self) -> None:
        """Begin to open it."""
        self._thread.start()

    def go(self) -> None:
        """Let the frames come, once it is open."""
        self._gate.set()

    def stop(self) -> None:
        """End it; does not wait. A thread that waits for the network ends when that has had its time."""
        self._stopped.set()
        self._gate.set()

    @property
    def is_alive(self) -> bool:
        """Whether its thread still runs."""
        return self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        """Wait for its thread, so long at most."""
        self._thread.join(timeout_s)

    def _main(self) -> None:
        try:
            self._read()
        except Exception as error:  # noqa: BLE001 - task scope: a defect ends this source, and its session is told
            _log.exception("source %s met a defect", self._plan.name)
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self.opened.done():
            words = f"{self._plan.name}: {type(error).__name__}: {error}"
            self.opened.set_exception(MediaError(words, code="defect", hint="see the log"))
        else:
            self._say(SourceState.FAILED, str(error))

    def _read(self) -> None:
        source = self._first()
        attempt = 0
        while source is not None:
            began = time.monotonic()
            reason = self._play(source)
            if self._stopped.is_set():
                return
            if not self._plan.is_stream or _has_length(source):
                self._say(SourceState.FAILED if reason else SourceState.ENDED, reason)
                return
            attempt = 0 if time.monotonic() - began > STEADY_S else attempt
            source, attempt = self._reconnect(reason or f"{self._plan.name} ended", attempt)

    def _first(self) -> Source | None:
        """The source, open for the first time; None when that is not wanted any more, or did not work."""
        if self._plan.is_awaited:
            self.opened.set_result(None)
            self._gate.wait()
            return self._reconnect("nobody sends yet", 0)[0]
        try:
            source = self._open()
        except ComfyStreamError as error:
            self.opened.set_exception(error)
            return None
        self.opened.set_result(None)
        self._gate.wait()
        return source

    def _open(self) -> Source:
        assert self._plan.open is not None
        return self._plan.open(self._stopped)

    def _play(self, source: Source) -> str:
        """All its frames; why it broke off, if it did."""
        self._say(SourceState.RUNNING, "")
        try:
            for frame in self._in_time(source):
                self._deliver(frame)
        except ComfyStreamError as error:
            return str(error)
        finally:
            source.close()
        return ""

    def _in_time(self, source: Source) -> Iterator[VideoFrame | AudioFrame]:
        """Its frames when they are due, their media times after those of all before."""
        pacer = Pacer()
        offset = self._end + SEAM if self._end else Fraction(0)
        for frame in source.frames():
            if self._plan.is_paced:
                self._stopped.wait(pacer.wait_s(float(frame.pts * frame.time_base), time.monotonic()))
                frame.stamps.captured = time.monotonic_ns()
            if self._stopped.is_set():
                return
            pts = frame.pts + rescale(1, offset, frame.time_base)
            self._end = max(self._end, pts * frame.time_base)
            yield replace(frame, pts=pts)

    def _reconnect(self, reason: str, attempt: int) -> tuple[Source | None, int]:
        """Open it again, as often as it takes, and say at which attempt; None when nobody wants it any more."""
        while not self._stopped.is_set():
            self._say(SourceState.OPENING if self._plan.is_awaited else SourceState.RECONNECTING, reason)
            self._stopped.wait(min(attempt, 1) * FIRST_WAIT_S if self._plan.is_awaited else back_off_s(attempt))
            attempt += 1
            if not self._stopped.is_set():
                try:
                    return self._open(), attempt
                except ComfyStreamError as error:
                    reason = str(error)
        return None, attempt

    def _say(self, state: SourceState, reason: str) -> None:
        if not self._stopped.is_set():
            self._tell(state, reason)


def _has_length(source: Source) -> bool:
    return source.info.duration_s is not None
