"""Numbered pictures on their way through a worker and back: sent, watched for, judged when the clock has stopped."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, field
from fractions import Fraction

from comfystream.frames import VideoFrame
from comfystream.media.mpegts.decode import TsDecoder
from comfystream.media.mpegts.demux import Demuxer
from comfystream.media.mpegts.encode import Part, TsEncoder
from comfystream.media.mpegts.unit import AccessUnit
from comfystream.media.pattern import draw_pattern, read_counter
from comfystream.trickle.reader import TrickleReader
from comfystream.trickle.writer import TrickleWriter

from .rows import Goal

__all__ = ["MIME", "SETTLE_S", "Case", "Trip", "judge", "publish", "quiet", "record", "watch"]

MIME = "video/mp2t"
SETTLE_S = 1.5
QUIET_S, TAIL_S = 1.0, 10.0  # after the last picture was sent: until nothing has come for so long, and at most so long


@dataclass(frozen=True, slots=True)
class Case:
    """What is sent, and what is wanted."""

    size: tuple[int, int]
    fps: int
    bitrate: int
    p50: Goal | None = None

    @property
    def name(self) -> str:
        """For the table."""
        return f"{self.size[0]}x{self.size[1]} {self.fps} fps"


@dataclass(slots=True)
class Trip:
    """What one worker did.

    Attributes:
        took_ms: of the pictures after the settling time, from the socket in to the last byte out.
        first_s: from the first byte in to the first picture out.
        cpu_ms: processor time of the worker per picture that came out.
        peak_mb: most memory that it had.
        sent, came, unreadable: pictures.
        lost: those that the worker knows it lost, by reason.
    """

    took_ms: list[float] = field(default_factory=list)
    first_s: float = math.nan
    cpu_ms: float = math.nan
    peak_mb: float = math.nan
    sent: int = 0
    came: int = 0
    unreadable: int = 0
    lost: dict[str, int] = field(default_factory=dict)


def record(case: Case, seconds: float) -> list[list[Part]]:
    """The bytes of each picture, numbered and encoded before the clock starts."""
    encoder = TsEncoder(first_s=1.0, encoder="libx264", bitrate=case.bitrate)
    step = Fraction(1, case.fps)
    return [
        encoder.encode(VideoFrame(number, number, step, draw_pattern(*case.size, number)))
        for number in range(round(seconds * case.fps))
    ]


async def publish(url: str, recording: list[list[Part]], fps: int, sent_ns: list[int]) -> None:
    """Send a recording at its pace; notes when each picture's first byte went."""
    async with TrickleWriter(url, content_type=MIME) as writer:
        segment = None
        began = time.monotonic_ns()
        for number, parts in enumerate(recording):
            await asyncio.sleep(max(0, began + number * 10**9 // fps - time.monotonic_ns()) / 1e9)
            for part in parts:
                if part.starts_segment or segment is None:
                    segment = await writer.segment()
                sent_ns.append(time.monotonic_ns())
                await segment.write(part.data)


async def watch(url: str, came: list[tuple[int, AccessUnit]]) -> None:
    """Notes when each picture is there whole; they are decoded after the clock has stopped."""
    demuxer = Demuxer()
    async with TrickleReader(url) as reader:
        async for segment in reader:
            async for data in segment.chunks():
                units = demuxer.feed(data)
                now = time.monotonic_ns()
                came += [(now, unit) for unit in units]
            now = time.monotonic_ns()
            came += [(now, unit) for unit in demuxer.end(is_whole=not segment.is_broken)]


async def quiet(came: list[tuple[int, AccessUnit]]) -> None:
    """Wait for what is still on its way."""
    ended = time.monotonic()
    last = ended
    count = len(came)
    while time.monotonic() < min(last + QUIET_S, ended + TAIL_S):
        await asyncio.sleep(0.05)
        if len(came) > count:
            last, count = time.monotonic(), len(came)


def judge(trip: Trip, sent_ns: list[int], came: list[tuple[int, AccessUnit]], settled: int) -> None:
    """Read the counters of what came."""
    decoder, seen = TsDecoder(), set()
    for arrived_ns, unit in came:
        for frame in decoder.decode(unit, arrived_ns):
            if not isinstance(frame, VideoFrame):
                continue
            number = read_counter(frame.image)
            if number is None or number >= len(sent_ns):
                trip.unreadable += 1
            elif number not in seen:
                seen.add(number)
                if len(seen) == 1:
                    trip.first_s = (frame.stamps.captured - sent_ns[0]) / 1e9
                if number >= settled:
                    trip.took_ms.append((frame.stamps.captured - sent_ns[number]) / 1e6)
    trip.came = len(seen)
