"""A publisher's packets to pictures and sound, on a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import av.error

from comfystream.frames import AudioFrame, Stamps, VideoFrame
from comfystream.media.sound import SampleReader

from .protocol import Media
from .tags import Tag, read_audio, read_video

__all__ = ["Decoder"]

_log = logging.getLogger(__name__)
MILLISECOND = Fraction(1, 1000)
MOST_WAITING, MOST_BYTES = 600, 16 << 20  # packets: five seconds of pictures and sound
_WRAP = 1 << 32


class _Times:
    """Milliseconds that wrap at 32 bits to ones that do not; one for pictures and sound together."""

    def __init__(self) -> None:
        self._last = 0

    def at(self, time: int) -> int:
        step = (time - self._last) % _WRAP
        self._last += step - _WRAP if step >= _WRAP // 2 else step
        return self._last


class _Track:
    """One codec of the publisher; set up anew when its configuration changes."""

    def __init__(self) -> None:
        self._context: Any = None
        self._config: tuple[str, bytes] | None = None
        self._complained: set[str] = set()
        self.must_wait = True

    def decode(self, tag: Tag, at_ms: int) -> list[Any]:
        """Frames that are ready; a packet that is broken gives none, and one line in the log."""
        if not tag.codec:
            self._complain("its codec is not known here: H.264, HEVC, AV1, AAC, MP3 and Opus are")
            return []
        if tag.is_config:
            self._set_up(tag.codec, tag.data)
            return []
        if self._config is None or self._config[0] != tag.codec:
            self._set_up(tag.codec, b"")
        if self.must_wait and not tag.is_key:
            return []
        packet = av.Packet(tag.data)
        packet.dts, packet.pts, packet.time_base = at_ms, at_ms + tag.offset_ms, MILLISECOND
        try:
            frames = list(self._context.decode(packet))
        except (av.error.FFmpegError, ValueError, MemoryError) as error:
            self._complain(f"a packet cannot be decoded: {error}")
            self.must_wait = True
            return []
        self.must_wait = False
        return frames

    def _set_up(self, codec: str, config: bytes) -> None:
        if self._config == (codec, config):
            return
        self._config = (codec, config)
        self._context = av.CodecContext.create(codec, "r")
        self._context.thread_type = "SLICE"  # threads for whole frames would hold some back
        if config:
            self._context.extradata = config
        self.must_wait = True

    def _complain(self, what: str) -> None:
        if what not in self._complained and len(self._complained) < 8:
            self._complained.add(what)
            _log.warning("rtmp publisher: %s", what)


class Decoder:
    """Takes what a publisher sends and gives frames.

    When decoding falls behind, waiting pictures are dropped up to the next key frame.

    Args:
        name: of the thread.
        give: takes the frames, on the thread.

    Attributes:
        dropped: packets that were not decoded in time.
    """

    def __init__(self, name: str, give: Callable[[VideoFrame | AudioFrame], None]) -> None:
        self._give = give
        self._waiting: deque[Media] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._is_closed = False
        self._times = _Times()
        self._video, self._audio = _Track(), _Track()
        self._samples = SampleReader()
        self._must_skip = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, media: Media) -> None:
        """Hand over a packet; never waits."""
        with self._changed:
            if len(self._waiting) >= MOST_WAITING or self._bytes + len(media.data) > MOST_BYTES:
                self._skip()
            self._waiting.append(media)
            self._bytes += len(media.data)
            self._changed.notify()

    def _skip(self) -> None:
        """Give up what waits, but for the codecs' set-up."""
        kept = [media for media in self._waiting if _is_config(media)]
        self.dropped += len(self._waiting) - len(kept)
        self._waiting = deque(kept[-4:])
        self._bytes = sum(len(media.data) for media in self._waiting)
        self._must_skip = True

    def close(self) -> None:
        """End the thread, dropping what waits. Idempotent; does not wait for it."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def _run(self) -> None:
        while (media := self._take()) is not None:
            self._decode(media)

    def _take(self) -> Media | None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._waiting)
            if self._is_closed:
                return None
            if self._must_skip:
                self._must_skip, self._video.must_wait = False, True
            media = self._waiting.popleft()
            self._bytes -= len(media.data)
            return media

    def _decode(self, media: Media) -> None:
        at_ms = self._times.at(media.time)
        if media.is_video:
            tag = read_video(media.data)
            for image in self._video.decode(tag, at_ms) if tag is not None else ():
                pts = image.pts if image.pts is not None else at_ms
                self._give(VideoFrame(0, pts, MILLISECOND, image, Stamps()))
        else:
            tag = read_audio(media.data)
            for sound in self._audio.decode(tag, at_ms) if tag is not None else ():
                pts = sound.pts if sound.pts is not None else at_ms
                self._give(AudioFrame(0, pts, MILLISECOND, self._samples.read(sound), sound.sample_rate, Stamps()))


def _is_config(media: Media) -> bool:
    tag = read_video(media.data) if media.is_video else read_audio(media.data)
    return tag is not None and tag.is_config
