"""Pictures and sound of one stream: in, through the pipe, out; with stand-ins while nothing comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

from comfystream.byoc.backend import Pipe
from comfystream.byoc.events import EVENTS
from comfystream.byoc.figures import Figures
from comfystream.byoc.links import MediaIn, MediaOut
from comfystream.byoc.messages import StreamParams
from comfystream.byoc.output_time import OutputTime
from comfystream.byoc.stand_in import LoadingPicture, Watch
from comfystream.frames import AudioFrame, Frame, TextCue, VideoFrame

__all__ = ["MediaPath"]


class MediaPath:
    """Both directions.

    Args:
        pipe: does the work.
        figures: counts.
        put_data: takes texts.
        tell: takes events.

    Attributes:
        source, sink: set before the pumps start; None leaves that end out.
    """

    def __init__(
        self,
        pipe: Pipe,
        figures: Figures,
        put_data: Callable[[Any], None],
        tell: Callable[[dict[str, Any], str], None],
    ) -> None:
        self.source: MediaIn | None = None
        self.sink: MediaOut | None = None
        self._pipe = pipe
        self._figures = figures
        self._put_data = put_data
        self._tell = tell
        self._least_gap: Fraction | None = None
        self._due: Fraction | None = None
        self._is_loading_shown: bool | None = None
        self._card = LoadingPicture()
        self._watch = Watch()
        self._time = OutputTime()
        self._newest: VideoFrame | None = None

    def set_params(self, params: StreamParams) -> None:
        """What of them is about frames."""
        if params.max_framerate is not None:
            self._least_gap = Fraction(1, params.max_framerate)
        if params.show_loading is not None:
            self._is_loading_shown = params.show_loading or None

    # --- in

    async def pump_in(self) -> str:
        """Until the input ends."""
        assert self.source is not None
        async for frame in self.source:
            is_video = isinstance(frame, VideoFrame)
            if self._figures.came(is_video=is_video):
                self._tell({"type": "receive_first_ingest_segment"}, EVENTS)
            if isinstance(frame, VideoFrame):
                self._picture(frame)
            else:
                self._sound(frame)
        return "input ended"

    def _picture(self, frame: VideoFrame) -> None:
        if self._is_too_early(frame):
            return
        words = self._loading()
        self._pipe.submit(frame)
        if words is not None:
            self._watch.came()
            self._put_picture(self._card.for_frame(frame, words))
        elif self._watch.is_stalled():
            shown = self._newest
            self._put_picture(frame if shown is None else replace(frame, image=shown.image))

    def _sound(self, frame: AudioFrame) -> None:
        if self._loading() is not None:
            self._put_sound(frame)
        else:
            self._pipe.submit(frame)

    def _loading(self) -> str | None:
        words = self._pipe.loading()
        return words if words is not None or not self._is_loading_shown else "Please wait"

    def _is_too_early(self, frame: VideoFrame) -> bool:
        """Whether the frame rate leaves it out; the places for pictures lie evenly, whatever the source's own rate."""
        gap = self._least_gap
        if gap is None:
            return False
        at = frame.pts * frame.time_base
        if self._due is None or at < self._due - 10 * gap:
            self._due = at
        if at + gap / 20 < self._due:
            return True
        self._due = max(self._due + gap, at)
        return False

    # --- out

    async def pump_out(self) -> str:
        """Until the pipe ends."""
        async for frame in self._pipe.outputs():
            self._put(frame)
        return "the work has ended"

    def _put(self, frame: Frame) -> None:
        match frame:
            case TextCue():
                if frame.text.strip():
                    self._put_data(frame.text)
            case AudioFrame():
                self._put_sound(frame)
            case VideoFrame():
                if self._loading() is None:
                    self._watch.came()
                    self._newest = frame
                    self._put_picture(frame)

    def _put_picture(self, frame: VideoFrame) -> None:
        self._figures.size = (frame.image.width, frame.image.height)
        if self.sink is None:
            return
        self.sink.offer(self._time.place(frame))
        if self._figures.went(is_video=True):
            self._tell({"type": "send_first_processed_segment"}, EVENTS)

    def _put_sound(self, frame: AudioFrame) -> None:
        placed = self._time.place_sound(frame)
        if self.sink is not None and placed is not None:
            self.sink.offer(placed)
            self._figures.went(is_video=False)

    async def close(self) -> None:
        """Hang up, at both ends."""
        if self.source is not None:
            await self.source.close()
        if self.sink is not None:
            await self.sink.close()
