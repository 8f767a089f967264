"""The thread that encodes what the graph puts out."""

from __future__ import annotations

import time
from collections.abc import Mapping

from comfystream.channels import BoundedQueue
from comfystream.frames import AudioFrame, Frame, TextCue, VideoFrame
from comfystream.media.file_sink import Written
from comfystream.media.text_sink import TextSink
from comfystream.session.ends import Sink
from comfystream.session.routes import Routes, Way
from comfystream.session.stages import StageClock

__all__ = ["QUEUED_FRAMES", "Writer"]

QUEUED_FRAMES = 8


class Writer:
    """Takes frames from the graph, in order, and writes them.

    Args:
        sink: the result; None when only text is wanted.
        texts: side files by the node whose text goes there.
        routes: which of the frames belong into the result.
        meter: its own fields are written.

    Attributes:
        frames, sounds, cues: what was written.
        size: width and height of the pictures as the graph gave them.
        media_s: media time of the newest frame.
    """

    def __init__(self, sink: Sink | None, texts: Mapping[str, TextSink], routes: Routes, meter: StageClock) -> None:
        self._sink = sink
        self._texts = texts
        self._routes = routes
        self._meter = meter
        self._queue: BoundedQueue[Frame] = BoundedQueue(QUEUED_FRAMES)
        self._is_complete = False
        self.frames = self.sounds = self.cues = 0
        self.size = (0, 0)
        self.media_s = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written yet."""
        return not (self.frames or self.sounds or self.cues)

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
                return self._routes.video is not Way.NONE
            case AudioFrame():
                return self._routes.audio is Way.GRAPH
            case TextCue():
                return frame.node_id in self._texts

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
        if isinstance(frame, TextCue):
            self._texts[frame.node_id].write(frame)
            self.cues += 1
        elif self._sink is not None:
            self._sink.write(frame)
            if isinstance(frame, VideoFrame):
                self.frames += 1
                self.size = self.size if any(self.size) else (frame.image.width, frame.image.height)
            else:
                self.sounds += 1
        self.media_s = max(self.media_s, float(frame.pts * frame.time_base))

    def close(self, *, discard: bool = False) -> None:
        """No more frames."""
        self._queue.close(discard=discard)

    def finish(self, *, is_cut: bool) -> Written | None:
        """Complete the files.

        Args:
            is_cut: the source was not read to its end, so copied sound ends with the pictures.
        """
        began = time.perf_counter_ns()
        for text in self._texts.values():
            text.finish()
        written = None
        if self._sink is not None:
            written = self._sink.keep_partial() if is_cut else self._sink.finish()
        self._meter.encode += time.perf_counter_ns() - began
        self._is_complete = True
        return written

    def abort(self) -> None:
        """Leave nothing behind, unless the files are complete. Idempotent."""
        if self._is_complete:
            return
        for sink in (self._sink, *self._texts.values()):
            if sink is not None:
                sink.abort()
