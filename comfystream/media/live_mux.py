"""Live pictures and sound into a container that is written from front to end: H.264 and AAC."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Protocol

import av
import av.error
import numpy as np
from av.container import OutputContainer

from comfystream.clock import rescale
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.media.audio_track import EncodedTrack
from comfystream.media.encoding import CONTAINERS
from comfystream.media.live_timeline import LiveTimeline
from comfystream.media.video_track import VideoTrack

__all__ = ["BinaryOut", "LiveMux", "MuxOptions"]

RATE = 48_000
_BASE = Fraction(1, 90_000)
_KEY_EVERY_S = 2
_WAIT_NS, _WAIT_EXPECTED_NS = 700_000_000, 3_000_000_000  # for the other kind, and for one that is known to come
_NAMES = {VideoFrame: "video", AudioFrame: "audio"}
_MOST_EARLY = 24  # pictures that may wait for the first sound
_LATE_S = 5  # sound that is this far behind the pictures is not waited for: silence is written
_PIECE_S = Fraction(1, 10)


class BinaryOut(Protocol):
    """Where bytes go."""

    def write(self, data: bytes) -> int:
        """Write all of it."""
        ...


@dataclass(frozen=True, slots=True)
class MuxOptions:
    """What is written and how.

    Attributes:
        format: FFmpeg's name of the container.
        muxer: its options.
        video: x264's options.
        audio_bitrate: bits per second.
        has_silence: there is always sound, silence if the session has none: many receivers want it.
    """

    format: str
    muxer: Mapping[str, str] = field(default_factory=dict)
    video: Mapping[str, str] = field(default_factory=dict)
    audio_bitrate: int = 160_000
    has_silence: bool = False


class LiveMux:
    """Encodes frames as they come. One thread writes.

    The size is that of the first picture; others are fitted into it. What tracks there are is decided once: by
    `expects`, or by what has come within a moment. Sound or pictures that begin later are left out.

    Args:
        out: takes the bytes; an error that it raises is raised by `write`.
        options: the container and its codecs.
        expects: "video", "audio": what the session is known to give; empty when it is not known.

    Attributes:
        frames: pictures written (of sound, when there are only sounds).
        left_out: frames that had no track, or were from before the beginning.
    """

    def __init__(self, out: BinaryOut, options: MuxOptions, expects: frozenset[str] = frozenset()) -> None:
        self._out = out
        self._options = options
        self._expects = {kind for kind, name in _NAMES.items() if name in expects}
        self._early: deque[tuple[VideoFrame | AudioFrame, int]] = deque()
        self._began_ns = 0
        self._timeline = LiveTimeline()
        self._container: OutputContainer | None = None
        self._video: VideoTrack | None = None
        self._audio: EncodedTrack | None = None
        self._sound_s = Fraction(0)
        self._has_heard = False
        self.frames = 0
        self.left_out = 0

    @property
    def is_open(self) -> bool:
        """Whether it is decided what tracks there are, and they are being written."""
        return self._container is not None

    def write(self, frame: VideoFrame | AudioFrame, now_ns: int) -> None:
        """Encode one frame, which came at `now_ns`; waits for whoever takes the bytes."""
        if self._container is not None:
            self._put(frame, now_ns)
            return
        self._hold(frame, now_ns)
        if self._is_known(now_ns - self._began_ns):
            self._open()

    def finish(self) -> None:
        """Write what is held, and the end. Nothing is written if nothing came."""
        if self._container is None and self._early:
            self._open()
        if self._container is None:
            return
        for track in (self._video, self._audio):
            if track is not None:
                self._mux(track.flush())
        container, self._container = self._container, None
        container.close()

    def close(self) -> None:
        """Let go, whatever became of the rest. Idempotent."""
        container, self._container = self._container, None
        if container is not None:
            with contextlib.suppress(av.error.FFmpegError, OSError):
                container.close()

    # --- the beginning

    def _hold(self, frame: VideoFrame | AudioFrame, now_ns: int) -> None:
        if not self._early:
            self._began_ns = now_ns
        self._early.append((frame, now_ns))
        pictures = [held for held in self._early if isinstance(held[0], VideoFrame)]
        if len(pictures) > _MOST_EARLY:
            self._early.remove(pictures[0])
            self.left_out += 1

    def _is_known(self, waited_ns: int) -> bool:
        """Whether it may be decided what tracks there are."""
        came = {type(frame) for frame, _ in self._early}
        if len(came) == len(_NAMES):
            return True
        return waited_ns >= (_WAIT_NS if self._expects <= came else _WAIT_EXPECTED_NS)

    def _open(self) -> None:
        early = [frame for frame, _ in self._early]
        first = next((frame for frame in early if isinstance(frame, VideoFrame)), None)
        has_sound = any(isinstance(frame, AudioFrame) for frame in early)
        times = [frame.pts * frame.time_base for frame in early]
        self._timeline.start(min(at_s for at_s in times if abs(at_s - times[0]) < 1))
        container = av.open(self._out, "w", format=self._options.format, options=dict(self._options.muxer))
        assert isinstance(container, OutputContainer)
        self._container = container
        if first is not None:
            video = dict(self._options.video)
            fps = Fraction(30)
            self._video = VideoTrack(
                container, "libx264", video, _in_base(first, Fraction(0)), fps=fps, key_every_s=_KEY_EVERY_S
            )
        if has_sound or self._options.has_silence:
            kind = CONTAINERS[".mp4"]
            self._audio = EncodedTrack(container, kind.audio, RATE, self._options.audio_bitrate)
            if not has_sound:  # AAC begins before 0, which the muxer has to see before the first picture
                self._fill(2 * _PIECE_S)
        while self._early:
            self._put(*self._early.popleft())

    # --- the way of a frame

    def _put(self, frame: VideoFrame | AudioFrame, now_ns: int) -> None:
        at_s = self._timeline.at(type(frame), frame.pts * frame.time_base, now_ns)
        if isinstance(frame, VideoFrame):
            self._put_picture(frame, at_s)
        else:
            self._put_sound(frame, at_s)

    def _put_picture(self, frame: VideoFrame, at_s: Fraction) -> None:
        if self._video is None or at_s < 0:
            self.left_out += 1
            return
        self._mux(self._video.encode(_in_base(frame, at_s)))
        self.frames += 1
        if self._audio is not None:
            self._fill(at_s - (_LATE_S if self._has_heard else 0))

    def _put_sound(self, frame: AudioFrame, at_s: Fraction) -> None:
        if self._audio is None:
            self.left_out += 1
            return
        self._has_heard = True
        self._fill(at_s)
        self._encode(frame, at_s)
        self.frames += self._video is None

    def _fill(self, until_s: Fraction) -> None:
        """Silence where the sound is behind, in pieces of bounded size."""
        while until_s - self._sound_s > _PIECE_S:
            silence = np.zeros((2, int(RATE * _PIECE_S)), np.float32)
            self._encode(AudioFrame(0, 0, Fraction(1, RATE), silence, RATE), self._sound_s)

    def _encode(self, frame: AudioFrame, at_s: Fraction) -> None:
        assert self._audio is not None
        base = Fraction(1, frame.sample_rate)
        pts = rescale(1, at_s, base)
        self._mux(self._audio.encode(replace(frame, pts=pts, time_base=base)))
        self._sound_s = max(self._sound_s, at_s + frame.samples.shape[1] * base)

    def _mux(self, packets: Iterable[Any]) -> None:
        assert self._container is not None
        for packet in packets:
            self._container.mux(packet)


def _in_base(frame: VideoFrame, at_s: Fraction) -> VideoFrame:
    return replace(frame, pts=rescale(1, at_s, _BASE), time_base=_BASE)
