"""Sources made from sources: another frame rate, another size, real time, again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction

from comfystream.clock import Clock, rescale
from comfystream.errors import MediaError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.media.scale import Scaler, SizeMode
from comfystream.media.source import Source, SourceInfo, VideoInfo

__all__ = ["Looped", "Paced", "Resampled", "Resized"]


def _video(source: Source) -> VideoInfo:
    if source.info.video is None:
        raise MediaError(f"{source.info.name} has no pictures", code="no_video")
    return source.info.video


class Resampled:
    """A constant frame rate: each tick shows the picture nearest to it, dropping and repeating as needed.

    Args:
        source: gives the pictures; its sound passes through.
        fps: pictures per second that come out.

    Attributes:
        dropped, repeated: pictures left out and shown again so far.
    """

    def __init__(self, source: Source, fps: Fraction) -> None:
        if fps <= 0:
            raise ValueError(f"fps must be more than 0, got {fps}")
        self._source = source
        self._fps = fps
        self._video = _video(source)
        self.dropped = self.repeated = 0
        self._tick = 0
        duration = source.info.duration_s
        count = None if duration is None else round(duration * fps)
        self._info = replace(
            source.info,
            video=replace(self._video, fps=fps, time_base=1 / fps, is_variable=False, frame_count=count),
        )

    @property
    def info(self) -> SourceInfo:
        """As the source's, with the new rate."""
        return self._info

    def frames(self) -> Iterator[VideoFrame | AudioFrame]:
        """Pictures at the ticks, sound as it comes."""
        held: VideoFrame | None = None
        for frame in self._source.frames():
            if isinstance(frame, AudioFrame):
                yield frame
                continue
            slot = rescale(frame.pts, frame.time_base, 1 / self._fps)
            if held is None:
                self._tick = slot
            else:
                yield from self._shown(held, slot)
            held = frame
        if held is not None:
            step = rescale(1, 1 / self._video.fps, held.time_base)
            yield from self._shown(held, rescale(held.pts + step, held.time_base, 1 / self._fps))

    def _shown(self, frame: VideoFrame, until: int) -> Iterator[VideoFrame]:
        """`frame` at each tick before `until`."""
        count = until - self._tick
        self.dropped += count <= 0
        self.repeated += max(0, count - 1)
        for _ in range(count):
            yield replace(frame, id=self._tick, pts=self._tick, time_base=1 / self._fps, stamps=replace(frame.stamps))
            self._tick += 1

    def close(self) -> None:
        """Close the source."""
        self._source.close()


class Resized:
    """Pictures of one size, scaled before any graph sees them.

    Args:
        source: gives the pictures; its sound passes through.
        size: width and height; both even.
        mode: how a picture of another shape gets in.
    """

    def __init__(self, source: Source, size: tuple[int, int], mode: SizeMode = SizeMode.FIT) -> None:
        if any(side < 2 or side % 2 for side in size):
            raise ValueError(f"width and height must be even and at least 2, got {size[0]}x{size[1]}")
        self._source = source
        self._size = size
        self._mode = mode
        self._scaler = Scaler()
        self._info = replace(source.info, video=replace(_video(source), width=size[0], height=size[1]))

    @property
    def info(self) -> SourceInfo:
        """As the source's, with the new size."""
        return self._info

    def frames(self) -> Iterator[VideoFrame | AudioFrame]:
        """Pictures of the size, sound as it comes."""
        for frame in self._source.frames():
            if isinstance(frame, AudioFrame):
                yield frame
            else:
                yield replace(frame, image=self._scaler.resize(frame.image, self._size, self._mode))

    def close(self) -> None:
        """Close the source."""
        self._source.close()


class Paced:
    """Real time: a frame comes out when its media time has passed since the first one, like a camera's.

    Args:
        source: gives the frames.
        clock: says what time it is.
    """

    def __init__(self, source: Source, clock: Clock) -> None:
        self._source = source
        self._clock = clock

    @property
    def info(self) -> SourceInfo:
        """As the source's."""
        return self._source.info

    def frames(self) -> Iterator[VideoFrame | AudioFrame]:
        """The source's frames, in time, stamped as captured then."""
        start: int | None = None
        for frame in self._source.frames():
            media_ns = int(frame.pts * frame.time_base * 1_000_000_000)
            if start is None:
                start = self._clock.now_ns() - media_ns
            self._clock.sleep_until_ns(start + media_ns)
            frame.stamps.captured = self._clock.now_ns()
            yield frame

    def close(self) -> None:
        """Close the source."""
        self._source.close()


class Looped:
    """A source again and again; media time and ids go on.

    Args:
        open_source: opens it, for each round anew.
        rounds: how often; None = without end.
    """

    def __init__(self, open_source: Callable[[], Source], rounds: int | None = None) -> None:
        self._open = open_source
        self._rounds = rounds
        self._source = open_source()
        self._closed = False
        duration = self._source.info.duration_s
        self._length = Fraction(duration or 0).limit_denominator(1_000_000)
        total = None if rounds is None or duration is None else duration * rounds
        self._info = replace(self._source.info, duration_s=total)
        if self._info.video is not None:
            count = self._info.video.frame_count
            count = None if rounds is None or count is None else count * rounds
            self._info = replace(self._info, video=replace(self._info.video, frame_count=count))

    @property
    def info(self) -> SourceInfo:
        """As the source's, for all rounds."""
        return self._info

    def frames(self) -> Iterator[VideoFrame | AudioFrame]:
        """All rounds' frames."""
        offset, done = Fraction(0), 0
        counts = {VideoFrame: 0, AudioFrame: 0}
        while not self._closed:
            end = offset + self._length
            for frame in self._source.frames():
                kind = type(frame)
                pts = frame.pts + rescale(1, offset, frame.time_base)
                yield replace(frame, id=counts[kind], pts=pts)
                counts[kind] += 1
                end = max(end, (pts + _span(frame, self._info)) * frame.time_base)
            done += 1
            if done == self._rounds or self._closed:
                return
            self._source.close()
            self._source, offset = self._open(), end

    def close(self) -> None:
        """Stop after the frame that is on its way, and close the source."""
        self._closed = True
        self._source.close()


def _span(frame: VideoFrame | AudioFrame, info: SourceInfo) -> int:
    """How long a frame lasts, in its time base."""
    if isinstance(frame, AudioFrame):
        return rescale(frame.samples.shape[1], Fraction(1, frame.sample_rate), frame.time_base)
    return rescale(1, 1 / info.video.fps, frame.time_base) if info.video is not None else 0
