"""What a peer sends: the newest picture, encoded when the connection can take it, and sound by the clock."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import av
import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from numpy.typing import NDArray

from comfystream.frames import AudioFrame, VideoFrame

from .bitrate import fitting
from .encoder import RTP_VIDEO, VideoEncoder
from .timeline import Timeline

__all__ = ["OutTrack", "SoundTrack", "VideoTrack"]

logger = logging.getLogger(__name__)

_RATE = 48_000  # of Opus over RTP, whatever it carries (RFC 7587 4.1)
_SLICE = 960  # samples in 20 ms
_MOST_HELD_S = 0.4  # sound that waits longer would be late: the oldest goes


class OutTrack(MediaStreamTrack):
    """What a peer asks of a track that it sends, whoever encodes it.

    Attributes:
        media_s: media time of what was sent last, in seconds; None before.
        estimate: bits per second that the receiver thinks the network carries; None before it said so.
    """

    def __init__(self) -> None:
        super().__init__()
        self.media_s: Fraction | None = None
        self.estimate: int | None = None

    def use(self, codec: str) -> None:
        """Encode as "VP8" or "H264"; sound is Opus."""

    def request_key(self) -> None:
        """The receiver needs a picture that it can begin with."""

    def offer(self, frame: Any) -> None:
        """The newest frame; those that are fed in another way pass it over."""

    def figures(self) -> dict[str, Any]:
        """Counters since the start."""
        return {}


class VideoTrack(OutTrack):
    """Encoded pictures. When the encoder is busy the newest picture waits and those before it are dropped."""

    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        self._next: VideoFrame | None = None
        self._shown: VideoFrame | None = None
        self._needs_key = False
        self._wake = asyncio.Event()
        self._timeline = Timeline(RTP_VIDEO)
        self._encoder: VideoEncoder | None = None
        self._thread: ThreadPoolExecutor | None = None
        self.sent = self.dropped = self.failed = self.keys = self.bytes = self.bitrate = 0
        self.encode_ms = 0.0
        self.size = (0, 0)

    def use(self, codec: str) -> None:
        """Encode as "VP8" or "H264"."""
        self._encoder = VideoEncoder(codec)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rtc-encoder")

    @property
    def codec(self) -> str:
        """What it encodes to; empty before that is agreed."""
        return self._encoder.codec if self._encoder else ""

    def offer(self, frame: VideoFrame) -> None:
        """The newest picture."""
        self.dropped += self._next is not None
        self._next = frame
        self._wake.set()

    def request_key(self) -> None:
        """Make the next picture one that a viewer can begin with; without a new one, the last is sent again."""
        self._needs_key = True
        self._wake.set()

    async def recv(self) -> av.Packet[Any]:
        """The next encoded picture.

        Raises:
            MediaStreamError: the track was stopped.
        """
        if self._shown is not None:  # aiortc comes back when the packets of the last one are out
            self._shown.stamps.sent = time.monotonic_ns()
        while self.readyState == "live":
            await self._wake.wait()
            self._wake.clear()
            frame, self._next = self._next or self._shown, None
            if frame is not None and self._encoder is not None and self.readyState == "live":
                try:
                    return await self._encode(frame, self._encoder)
                except av.FFmpegError:  # the sender would end with it: this picture is lost, the next begins anew
                    self.failed += 1
                    logger.warning("a picture could not be encoded (%d so far)", self.failed, exc_info=self.failed == 1)
                    self._encoder = VideoEncoder(self._encoder.codec)
        raise MediaStreamError

    async def _encode(self, frame: VideoFrame, encoder: VideoEncoder) -> av.Packet[Any]:
        now = time.monotonic_ns()
        again = frame is self._shown
        pts = self._timeline.repeated(now) if again else self._timeline.at(frame.pts, frame.time_base, now)
        self.size = (frame.image.width, frame.image.height)
        self.bitrate = fitting(self.size, self.estimate)
        is_key, self._needs_key = self._needs_key, False
        packet = await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: encoder.encode(frame.image, pts, self.bitrate, is_key=is_key)
        )
        self._shown = frame
        self.media_s = frame.pts * frame.time_base
        frame.stamps.encoded = time.monotonic_ns()
        self.encode_ms += ((frame.stamps.encoded - now) / 1e6 - self.encode_ms) / min(30, self.sent + 1)
        self.sent, self.keys, self.bytes = self.sent + 1, self.keys + packet.is_keyframe, self.bytes + packet.size
        return packet

    def figures(self) -> dict[str, Any]:
        """Counters since the start: pictures, bytes, bitrate, drops."""
        return {
            "codec": self.codec,
            "width": self.size[0],
            "height": self.size[1],
            "frames": self.sent,
            "key_frames": self.keys,
            "dropped": self.dropped,
            "failed": self.failed,
            "bytes": self.bytes,
            "target_bitrate": self.bitrate,
            "estimate": self.estimate,
            "encode_ms": round(self.encode_ms, 2),
        }

    def stop(self) -> None:
        """No more pictures. Idempotent."""
        super().stop()
        self._next = self._shown = None
        self._wake.set()
        if self._thread is not None:
            self._thread.shutdown(wait=False)


class SoundTrack(OutTrack):
    """Sound in slices of 20 ms, one every 20 ms from the first on; silence where there is none.

    Args:
        now_ns: monotonic nanoseconds.
    """

    kind = "audio"

    def __init__(self, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        super().__init__()
        self._now_ns = now_ns
        self._held: deque[NDArray[np.int16]] = deque()
        self._count = 0
        self._began: int | None = None
        self._first = asyncio.Event()
        self._resampler: av.AudioResampler | None = None
        self._came: tuple[int, int] | None = None
        self._slices = 0
        self._end_s = Fraction(0)
        self.sent = self.silent = self.dropped = 0

    def offer(self, frame: AudioFrame) -> None:
        """More sound."""
        samples = self._stereo(frame)
        self._held.append(samples)
        self._count += samples.shape[1]
        self._end_s = frame.pts * frame.time_base + Fraction(frame.samples.shape[1], frame.sample_rate)
        while self._count > _MOST_HELD_S * _RATE and len(self._held) > 1:
            lost = self._held.popleft().shape[1]
            self._count, self.dropped = self._count - lost, self.dropped + lost
        self._first.set()

    def _stereo(self, frame: AudioFrame) -> NDArray[np.int16]:
        """16-bit samples [2, samples] at 48 kHz."""
        sound = frame.samples if frame.samples.shape[0] <= 2 else frame.samples.mean(axis=0, keepdims=True)
        came = (frame.sample_rate, sound.shape[0])
        if came != self._came:
            self._resampler, self._came = av.AudioResampler("s16p", "stereo", _RATE), came
        assert self._resampler is not None
        layout = "mono" if sound.shape[0] == 1 else "stereo"
        part = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound, np.float32), "fltp", layout)
        part.sample_rate = frame.sample_rate
        made = [out.to_ndarray() for out in self._resampler.resample(part)]
        return np.concatenate(made, axis=1) if made else np.zeros((2, 0), np.int16)

    async def recv(self) -> av.AudioFrame:
        """The next 20 ms.

        Raises:
            MediaStreamError: the track was stopped.
        """
        await self._first.wait()
        if self._began is None:
            self._began = self._now_ns()
        wait_s = (self._began - self._now_ns()) / 1e9 + self._slices * _SLICE / _RATE
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        if self.readyState != "live":
            raise MediaStreamError
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(self._take().T.reshape(1, -1)), "s16", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = _RATE, self._slices * _SLICE, Fraction(1, _RATE)
        self._slices, self.sent = self._slices + 1, self.sent + 1
        return frame

    def _take(self) -> NDArray[np.int16]:
        if self._count:
            self.media_s = self._end_s - Fraction(self._count, _RATE)
        elif self.media_s is not None:
            self.media_s += Fraction(_SLICE, _RATE)
        out = np.zeros((2, _SLICE), np.int16)
        filled = 0
        while filled < _SLICE and self._held:
            part = self._held.popleft()
            used = min(part.shape[1], _SLICE - filled)
            out[:, filled : filled + used] = part[:, :used]
            filled += used
            if used < part.shape[1]:
                self._held.appendleft(part[:, used:])
        self._count -= filled
        self.silent += not filled
        return out

    def figures(self) -> dict[str, Any]:
        """Counters since the start: slices sent, those of them that were silence, samples that came too late."""
        return {"slices": self.sent, "silent": self.silent, "dropped_samples": self.dropped}

    def stop(self) -> None:
        """No more sound. Idempotent."""
        super().stop()
        self._first.set()
