"""From a tick's output values to frames, and what is put out when there is no value."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import av

from comfystream.engine.lane_io import audio_frame
from comfystream.engine.meter import Meter
from comfystream.engine.plan import Output
from comfystream.engine.protocol import FailPolicy
from comfystream.engine.running import Running
from comfystream.engine.values import PASSTHROUGH, Items, as_items
from comfystream.errors import EngineError, NodeError
from comfystream.frames import AudioFrame, Frame, TextCue, VideoFrame
from comfystream.media.convert import ImageWriter
from comfystream.media.slate import slate

__all__ = ["Emitter"]


class Emitter:
    """Puts out what the ticks of one lane give. Used by that lane's thread only.

    Args:
        on_output: takes the frames.
        blocker: the `ExecutionBlocker` class.
        meter: counts conversion time and drops.
    """

    is_pipelined = False

    def __init__(self, on_output: Callable[[Frame], None], blocker: type, meter: Meter) -> None:
        self._on_output = on_output
        self._blocker = blocker
        self._meter = meter
        self._writer = ImageWriter()
        self._last_good: av.VideoFrame | None = None
        self._slate: tuple[tuple[Any, ...], av.VideoFrame] | None = None

    def put(
        self,
        running: Running,
        outputs: tuple[Output, ...],
        values: tuple[Any, ...],
        frame: VideoFrame | AudioFrame,
        duration: Callable[[VideoFrame | AudioFrame], int],
    ) -> None:
        """Put out the values of one tick.

        Args:
            running: whose tick it was.
            outputs, values: what the plan puts out, and this tick's values.
            frame: the input that the tick was made from.
            duration: gives the media time that the input spans, in its time base; asked only for texts.
        """
        for output, value in zip(outputs, values, strict=True):
            if type(value) is self._blocker or value is None:
                self._hold(output, frame)
            elif output.modality == "video":
                self._put_picture(output, value, frame)
            elif output.modality == "audio":
                self._put_sound(output, value, frame)
            elif output.is_live or output.node_id not in running.text_sent:
                running.text_sent.add(output.node_id)
                self._put_text(output, value, frame, duration(frame))

    def _hold(self, output: Output, frame: VideoFrame | AudioFrame) -> None:
        """A blocked output: the picture stays as it is."""
        self._meter.dropped["blocked"] += 1
        if output.modality == "video" and isinstance(frame, VideoFrame):
            self._put_image(self._last_good or frame.image, frame)

    def _put_picture(self, output: Output, value: Any, frame: VideoFrame | AudioFrame) -> None:
        if value is PASSTHROUGH and isinstance(frame, VideoFrame):
            image = frame.image
        elif isinstance(value, av.VideoFrame):
            image = value
        else:
            began = time.perf_counter_ns()
            image = self._to_image(output, value, frame)
            self._meter.convert_ns += time.perf_counter_ns() - began
        self._last_good = image
        self._put_image(image, frame)

    def _to_image(self, output: Output, value: Any, frame: VideoFrame | AudioFrame) -> av.VideoFrame:
        like = frame.image if isinstance(frame, VideoFrame) else None
        return self._writer.write(self.one_picture(output, value), like)

    def one_picture(self, output: Output, value: Any) -> Any:
        """The tensor that an output shows.

        Raises:
            EngineError: the value is no tensor.
        """
        if type(value) is Items:
            value = value[0] if value else None
        if not hasattr(value, "shape"):
            raise EngineError(f"gave {type(value).__name__} where an IMAGE was expected", node_id=output.node_id)
        return value

    def _put_image(self, image: av.VideoFrame, frame: VideoFrame | AudioFrame) -> None:
        frame.stamps.computed = time.monotonic_ns()
        if isinstance(frame, VideoFrame) and image is frame.image:
            self._on_output(frame)
        else:
            self._on_output(VideoFrame(frame.id, frame.pts, frame.time_base, image, frame.stamps))

    def _put_sound(self, output: Output, value: Any, frame: VideoFrame | AudioFrame) -> None:
        if value is PASSTHROUGH:
            self._on_output(_sound_like(frame))
            return
        made = value if isinstance(value, AudioFrame) else self.sound(output, value, frame)
        made.stamps.computed = time.monotonic_ns()
        self._on_output(made)

    def sound(self, output: Output, value: Any, frame: VideoFrame | AudioFrame) -> AudioFrame:
        """The sound that an output gives.

        Raises:
            EngineError: the value is no sound.
        """
        return audio_frame(value[0] if type(value) is Items else value, _sound_like(frame), output.node_id)

    def _put_text(self, output: Output, value: Any, frame: VideoFrame | AudioFrame, duration: int) -> None:
        for item in as_items(value):
            text = item if isinstance(item, str) else str(item)
            if output.options.get("remove_linebreaks", True):
                text = text.replace("\n", "").replace("\r", "")
            self._on_output(TextCue(frame.id, frame.pts, frame.time_base, text, duration, output.node_id))

    def put_failed(
        self, running: Running, error: NodeError, frame: VideoFrame | AudioFrame, policy: FailPolicy
    ) -> None:
        """Put out what the policy says for a frame whose tick failed."""
        if not isinstance(frame, VideoFrame):
            if "audio" in running.revision.gives and isinstance(frame, AudioFrame):
                self._on_output(frame)  # sound has no last picture to hold: the input goes on
            return
        if "video" not in running.revision.gives:
            return
        if policy is FailPolicy.PASSTHROUGH and frame.image is not None:
            self._put_image(frame.image, frame)
        elif policy is FailPolicy.HOLD and self._last_good is not None:
            self._put_image(self._last_good, frame)
        else:
            self._put_image(self._slate_for(error, frame), frame)

    def wait_for_room(self) -> None:
        """Nothing is under way here: what is put is out."""

    def flush(self) -> None:
        """The same."""

    def close(self, *, discard: bool) -> None:
        """The same."""

    def _slate_for(self, error: NodeError, frame: VideoFrame) -> av.VideoFrame:
        shape = self._last_good if self._last_good is not None else frame.image
        width, height = (shape.width, shape.height) if shape is not None else (512, 512)
        key = (error.node_id, error.message, width, height)
        if self._slate is None or self._slate[0] != key:
            title = f'Node {error.node_id} "{error.class_type}" failed'
            self._slate = (key, slate(width, height, title, [error.message, error.hint]))
        return self._slate[1]


def _sound_like(frame: VideoFrame | AudioFrame) -> AudioFrame:
    if isinstance(frame, AudioFrame):
        return frame
    return AudioFrame(frame.id, frame.pts, frame.time_base, _NO_SAMPLES, 48_000, frame.stamps)


_NO_SAMPLES: Any = None
