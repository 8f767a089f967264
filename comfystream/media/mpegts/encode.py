"""Frames to segments of a transport stream whose bytes leave with each frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from comfystream.clock import rescale
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.media.mpegts import opus
from comfystream.media.mpegts.mux import AUDIO_PID, VIDEO_PID, Muxer
from comfystream.media.mpegts.picture_coder import PictureCoder, even_size
from comfystream.media.mpegts.sound_coder import SoundCoder
from comfystream.media.mpegts.unit import CLOCK, StreamCodec, StreamInfo

__all__ = ["Part", "SegmentPlan", "TsEncoder"]

_SLACK = 900  # 10 ms: a picture that is this close to the border is behind it
_JUMP_BACK = 90_000  # times that go back further are a new beginning of the input, and are moved
_MOST_HELD = 100  # packets of sound that wait for the first picture: two seconds


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes to send now.

    Attributes:
        data: whole transport packets.
        starts_segment: they begin a segment, which can be read alone.
        pts: of the frame in them, in 1/90000 s.
        is_video: it is a picture.
    """

    data: bytes
    starts_segment: bool
    pts: int
    is_video: bool


class SegmentPlan:
    """Says where segments begin: pure arithmetic on media time.

    Args:
        segment_s: how long segments are at least.
        first_s: how long the first one is.
    """

    def __init__(self, segment_s: float, first_s: float) -> None:
        self._length, self._next_length = round(segment_s * 90_000), round(first_s * 90_000)
        self._began: int | None = None

    def begins(self, pts: int, *, has_to: bool = False) -> bool:
        """Whether a segment begins at `pts`; `has_to` = it does, whatever the time."""
        if self._began is not None and not has_to and pts - self._began < self._next_length - _SLACK:
            return False
        if self._began is not None:
            self._next_length = self._length
        self._began = pts
        return True


class TsEncoder:
    """Pictures and sound in, parts out; owned by one thread at a time.

    Times are those of the frames. Where they stand still or go back a little they are moved on by a tick, where they
    jump back (the input began anew) the rest of the stream is moved behind what was sent.

    Args:
        has_video: pictures will come: segments begin with them, and sound waits for the first one.
        channels: of the sound that will come, 1 or 2; None = it is seen when it comes, and then begins a segment.
        segment_s, first_s: length of the segments, and of the first one, which is short so that a reader who waits
            for whole segments sees something soon.
        encoder, bitrate: of the pictures; see `PictureCoder`.
    """

    def __init__(
        self,
        *,
        has_video: bool = True,
        channels: int | None = None,
        segment_s: float = 1.0,
        first_s: float = 0.3,
        encoder: str | None = None,
        bitrate: int | None = None,
    ) -> None:
        self._pictures = PictureCoder(encoder, bitrate) if has_video else None
        self._sound = SoundCoder(channels) if channels else None
        self._muxer = Muxer()
        self._plan = SegmentPlan(segment_s, first_s)
        self._streams: tuple[StreamInfo, ...] = ()
        self._held: deque[tuple[bytes, int]] = deque(maxlen=_MOST_HELD)
        self._shift = 0
        self._last = {VIDEO_PID: -1, AUDIO_PID: -1}
        self._is_cut = False

    @property
    def encoder(self) -> str:
        """Name of the encoder of pictures; empty without any."""
        return self._pictures.name if self._pictures is not None else ""

    def cut(self) -> None:
        """The next picture begins a segment."""
        self._is_cut = True

    def renew(self) -> None:
        """Go on with a new encoder of pictures, after one that failed."""
        if self._pictures is not None:
            self._pictures.renew()
        self.cut()

    def encode(self, frame: VideoFrame | AudioFrame) -> list[Part]:
        """Bytes that a frame makes."""
        return self._picture(frame) if isinstance(frame, VideoFrame) else list(self._sounds(frame))

    def flush(self) -> list[Part]:
        """The rest of the sound; the encoder of pictures holds nothing."""
        if self._sound is None or not self._streams:
            return []
        return [part for packet in self._sound.flush() for part in self._sound_part(*packet)]

    def _picture(self, frame: VideoFrame) -> list[Part]:
        if self._pictures is None:
            return []
        pts = self._time(rescale(frame.pts, frame.time_base, CLOCK))
        resized = self._pictures.size not in (None, even_size(frame.image))
        begins = self._plan.begins(pts, has_to=resized or self._is_cut)
        self._is_cut = False
        data = self._pictures.encode(frame.image, pts, is_key=begins)
        head = self._tables() if begins else b""
        out = head + self._muxer.unit(self._streams[0], data, pts, is_entry=begins)
        parts = [Part(out, begins, pts, is_video=True)]
        if len(self._streams) > 1:
            while self._held:
                parts += self._sound_part(*self._held.popleft())
        return parts

    def _time(self, pts: int) -> int:
        """A picture's time, later than all before."""
        last = self._last[VIDEO_PID]
        if last >= 0 and pts + self._shift < last - _JUMP_BACK:
            self._shift = last + 3000 - pts
        pts = max(pts + self._shift, last + 1)
        self._last[VIDEO_PID] = pts
        return pts

    def _tables(self) -> bytes:
        video = [StreamInfo(VIDEO_PID, StreamCodec.H264)] if self._pictures is not None else []
        audio = [StreamInfo(AUDIO_PID, StreamCodec.OPUS, self._sound.channels)] if self._sound is not None else []
        self._streams = (*video, *audio)
        return self._muxer.tables(self._streams)

    def _sounds(self, frame: AudioFrame) -> Iterator[Part]:
        if self._sound is None:
            self._sound = SoundCoder(2 if frame.samples.shape[0] == 2 else 1)
            self._is_cut = True
        for data, pts in self._sound.encode(frame):
            if self._pictures is not None and len(self._streams) < 2:
                self._held.append((data, pts))
            else:
                yield from self._sound_part(data, pts)

    def _sound_part(self, data: bytes, pts: int) -> list[Part]:
        pts += self._shift
        if pts <= self._last[AUDIO_PID]:
            return []
        self._last[AUDIO_PID] = pts
        begins = self._pictures is None and self._plan.begins(pts)
        head = self._tables() if begins else b""
        out = head + self._muxer.unit(self._streams[-1], opus.with_header(data), pts, is_entry=self._pictures is None)
        return [Part(out, begins, pts, is_video=False)]
