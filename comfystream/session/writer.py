"""The thread that encodes what the graph puts out."""

from __future__ import annotations

import time
from collections.abc import Callable

from comfystream.channels import BoundedQueue
from comfystream.frames import AudioFrame, Frame, TextCue, VideoFrame
from comfystream.session.ports import Sink, TextSink, Written
from comfystream.session.routes import Routes, Way
from comfystream.session.stages import StageClock

__all__ = ["QUEUED_FRAMES", "Writer"]

QUEUED_FRAMES = 8


class Writer:
    """Takes frames from the graph, in order, and writes them.

    Args:
        sink: the result; None when only text is wanted.
        text: opens a side file for the cues of a node; called with the node's id when its first cue comes.
        routes: which of the frames belong into the result.
        meter: its own fields are written.
    """

    def __init__(
        self, sink: Sink | None, text: Callable[[str], TextSink] | None, routes: Routes, meter: StageClock
    ) -> None:
        self._sink = sink
        self._open_text = text
        self._texts: dict[str, TextSink] = {}
        self._routes = routes
        self._meter = meter
        self._queue: BoundedQueue[Frame] = BoundedQueue(QUEUED_FRAMES)
        self.frames = 0
        self.sounds = 0
        self.media_s = 0.0

    def put(self, frame: Frame) -> None:
        """Hand a frame over, waiting for room; frames that the result has no use for are left out.

        Raises:
            Closed: the job is over.
        """
        if self._is_wanted(frame):
            began = time.perf_counter_ns()
            self._queue.put(frame)
            self._meter.hold += time.perf_counter_ns() - began

    def _is_wanted(self, frame: Frame) -> bool:
        match frame:
            case VideoFrame():
                return self._sink is not None and self._routes.video in (Way.GRAPH, Way.FRAMES)
            case AudioFrame():
                return self._sink is not None and self._routes.audio is Way.GRAPH
            case TextCue():
                return self._open_text is not None

    def run(self) -> None:
        """Write until `close`.

        Raises:
            MediaError: a frame cannot be encoded or written.
        """
        idle_since = time.perf_counter_ns()
        for frame in self._queue:
            began = time.perf_counter_ns()
            self._meter.idle += began - idle_since
            self._write(frame)
            idle_since = time.perf_counter_ns()
            self._meter.encode += idle_since - began

    def _write(self, frame: Frame) -> None:
        self.media_s = max(self.media_s, float(frame.pts * frame.time_base))
        if isinstance(frame, TextCue):
            self._text_of(frame.node_id).write(frame)
            return
        assert self._sink is not None
        self._sink.write(frame)
        self.frames += isinstance(frame, VideoFrame)
        self.sounds += isinstance(frame, AudioFrame)

    def _text_of(self, node_id: str) -> TextSink:
        sink = self._texts.get(node_id)
        if sink is None:
            assert self._open_text is not None
            sink = self._texts[node_id] = self._open_text(node_id)
        return sink

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written yet."""
        return not self.frames and not self._texts and not self.sounds

    def close(self, *, discard: bool = False) -> None:
        """No more frames."""
        self._queue.close(discard=discard)

    def finish(self) -> Written | None:
        """Complete the files."""
        began = time.perf_counter_ns()
        written = self._sink.finish() if self._sink is not None else None
        for sink in self._texts.values():
            sink.finish()
        self._meter.encode += time.perf_counter_ns() - began
        return written

    def discard(self) -> None:
        """Leave nothing behind."""
        if self._sink is not None:
            self._sink.discard()
        for sink in self._texts.values():
            sink.discard()
