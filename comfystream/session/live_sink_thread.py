"""The thread of one sink: it encodes and writes, and connects anew when a receiver is gone."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from comfystream.errors import ComfyStreamError, NetworkError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.media.live_writer import LiveWriter
from comfystream.session.live_sink_state import SinkState

__all__ = ["SinkThread", "Written"]

_log = logging.getLogger(__name__)
ROOM = {VideoFrame: 8, AudioFrame: 250}
BACK_OFF_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
GIVES_UP_S = 600.0  # a receiver that was away for so long
STEADY_S = 10.0  # after so long a connection counts as good, and the back-off begins anew
STALLED_S = 10.0


@dataclass(frozen=True, slots=True)
class Written:
    """Pictures and bytes that went out, and frames that had no place in it."""

    frames: int = 0
    size: int = 0
    left_out: int = 0


class SinkThread:
    """Writes what it is offered; when it is too slow, the oldest goes.

    Args:
        name: of the thread.
        make: makes a writer, on the thread.
        tell: is told the state and the reason, on the thread.
        may_retry: whether a `NetworkError` is followed by another try.

    Attributes:
        dropped: frames that were not written.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], LiveWriter],
        tell: Callable[[SinkState, str], None],
        *,
        may_retry: bool,
    ) -> None:
        self._make = make
        self._tell = tell
        self._may_retry = may_retry
        self._waiting: deque[tuple[VideoFrame | AudioFrame, int]] = deque()
        self._held = dict.fromkeys(ROOM, 0)
        self._changed = threading.Condition()
        self._is_ending = False
        self._writer: LiveWriter | None = None
        self._busy_since: float | None = None
        self._before = Written()
        self._is_off = True
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    # --- on the loop

    def offer(self, frame: VideoFrame | AudioFrame, now_ns: int) -> None:
        """Hand over a frame that came at `now_ns`; never waits."""
        kind = type(frame)
        with self._changed:
            if self._is_ending or self._is_off:
                self.dropped += self._is_off
                return
            if self._held[kind] >= ROOM[kind]:
                self._waiting.remove(next(held for held in self._waiting if type(held[0]) is kind))
                self.dropped += 1
            else:
                self._held[kind] += 1
            self._waiting.append((frame, now_ns))
            self._changed.notify()
        if self._busy_since is not None and time.monotonic() - self._busy_since > STALLED_S:
            self.abort()

    @property
    def written(self) -> Written:
        """What came of it so far."""
        writer, before = self._writer, self._before
        if writer is None:
            return before
        return Written(before.frames + writer.frames, before.size + writer.size, before.left_out + writer.left_out)

    def end(self) -> None:
        """Write what waits, then the end. Idempotent."""
        with self._changed:
            self._is_ending = True
            self._changed.notify()

    def abort(self) -> None:
        """End what a writer waits for."""
        writer = self._writer
        if writer is not None:
            writer.abort()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; whether it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # --- on the thread

    def _run(self) -> None:
        try:
            reason = self._write_all()
        except ComfyStreamError as error:
            self._tell(SinkState.FAILED, str(error))
        except Exception:  # noqa: BLE001 - task scope: a defect ends one sink; logged once, and whoever asked is told
            _log.exception("%s met a defect", self._thread.name)
            self._tell(SinkState.FAILED, "this is a defect of ComfyStream; see its log")
        else:
            self._tell(SinkState.ENDED, reason)
        finally:
            with self._changed:
                self._is_off = True
                self._waiting.clear()

    def _write_all(self) -> str:
        tries, lost_at = 0, time.monotonic()
        while True:
            began = time.monotonic()
            try:
                self._connect_and_write()
                return ""
            except NetworkError as error:
                if not self._may_retry:
                    raise
                if time.monotonic() - began > STEADY_S:
                    tries, lost_at = 0, time.monotonic()
                if time.monotonic() - lost_at > GIVES_UP_S:
                    raise
                self._tell(SinkState.RECONNECTING, str(error))
                if self._rest(BACK_OFF_S[min(tries, len(BACK_OFF_S) - 1)]):
                    return f"it was not connected: {error}"
                tries += 1

    def _connect_and_write(self) -> None:
        self._writer = writer = self._make()
        try:
            with self._changed:
                self._is_off = False
            self._pass_frames(writer)
            writer.finish()
        finally:
            writer.close()
            self._busy_since = None
            with self._changed:
                self._is_off = True
                self._waiting.clear()
                self._held = dict.fromkeys(ROOM, 0)
            self._before, self._writer = self.written, None

    def _pass_frames(self, writer: LiveWriter) -> None:
        is_told = False
        while (item := self._take()) is not None:
            self._busy_since = time.monotonic()
            writer.write(*item)
            self._busy_since = None
            if not is_told and writer.is_running:
                is_told = True
                self._tell(SinkState.RUNNING, "")

    def _take(self) -> tuple[VideoFrame | AudioFrame, int] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_ending)
            if not self._waiting:
                return None
            item = self._waiting.popleft()
            self._held[type(item[0])] -= 1
            return item

    def _rest(self, seconds: float) -> bool:
        """Wait before the next try; whether it is to end instead."""
        with self._changed:
            return self._changed.wait_for(lambda: self._is_ending, seconds)
