"""Pictures and sound of one stream: in, through the pipe, out; with stand-ins while nothing comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from comfystream.byoc.backend import Loading, Pipe
from comfystream.byoc.events import EVENTS
from comfystream.byoc.figures import Figures
from comfystream.byoc.links import MediaIn, MediaOut
from comfystream.byoc.messages import StreamParams
from comfystream.byoc.stand_in import Stall
from comfystream.frames import AudioFrame, Frame, TextCue, VideoFrame
from comfystream.media.progress import ProgressPictures
from comfystream.media.scale import Scaler, SizeMode

if TYPE_CHECKING:
    import av

__all__ = ["MediaPath"]


class MediaPath:
    """Both directions.

    Args:
        pipe: does the work.
        figures: counts.
        put_data: takes texts.
        tell: takes events.
        size: that pictures go out in; None: as they are made.

    Attributes:
        source, sink: set before the pumps start; None leaves that end out.
    """

    def __init__(
        self,
        pipe: Pipe,
        figures: Figures,
        put_data: Callable[[Any], None],
        tell: Callable[[dict[str, Any], str], None],
        size: tuple[int, int] | None = None,
    ) -> None:
        self.source: MediaIn | None = None
        self.sink: MediaOut | None = None
        self._pipe = pipe
        self._figures = figures
        self._put_data = put_data
        self._tell = tell
        self._size = size
        self._scaler = Scaler()
        self._least_gap: Fraction | None = None
        self._due: Fraction | None = None
        self._is_loading_shown: bool | None = None
        self._card = ProgressPictures()
        self._stall = Stall()
        self._newest: av.VideoFrame | None = None
        self._too_early = self._hidden = 0

    def lost(self) -> dict[str, int]:
        """Pictures that came and did not go out, by reason; those that the work dropped are in its own report."""
        counts = {"above max_framerate": self._too_early, "replaced by the loading picture": self._hidden}
        for end in (self.source, self.sink):
            counts |= end.lost() if end is not None else {}
        return {reason: count for reason, count in counts.items() if count}

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
            self._too_early += 1
            return
        loading = self._loading()
        self._pipe.submit(frame)
        if loading is not None:
            self._stall.came()
            self._put_card(frame, loading)
        elif self._stall.is_stalled() and self._newest is not None:
            self._put_picture(replace(frame, image=self._newest))
        elif self._stall.is_stalled():
            self._put_card(frame, Loading("Waiting for the first picture"))

    def _put_card(self, frame: VideoFrame, loading: Loading) -> None:
        size = (frame.image.width, frame.image.height)
        self._put_picture(replace(frame, image=self._card.picture(size, loading.words, loading.share)))

    def _sound(self, frame: AudioFrame) -> None:
        if self._loading() is not None:
            self._put_sound(frame)
        else:
            self._pipe.submit(frame)

    def _loading(self) -> Loading | None:
        loading = self._pipe.loading()
        return loading if loading is not None or not self._is_loading_shown else Loading("Please wait")

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
                if self._loading() is not None:
                    self._hidden += 1
                    return
                self._stall.came()
                self._newest = frame.image
                self._put_picture(frame)

    def _put_picture(self, frame: VideoFrame) -> None:
        if self._size is not None:
            frame = replace(frame, image=self._scaler.resize(frame.image, self._size, SizeMode.FILL))
        self._figures.size = (frame.image.width, frame.image.height)
        if self.sink is None:
            return
        self.sink.offer(frame)
        if self._figures.went(is_video=True):
            self._tell({"type": "send_first_processed_segment"}, EVENTS)

    def _put_sound(self, frame: AudioFrame) -> None:
        if self.sink is not None:
            self.sink.offer(frame)
            self._figures.went(is_video=False)

    async def close(self) -> None:
        """Hang up, at both ends."""
        if self.source is not None:
            await self.source.close()
        if self.sink is not None:
            await self.sink.close()
