"""What a transport stream carries: access units, each one picture or a run of sound as its codec wrote it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

__all__ = ["CLOCK", "AccessUnit", "StreamCodec", "StreamInfo"]

CLOCK = Fraction(1, 90_000)  # of presentation and decoding times (ISO/IEC 13818-1, 2.4.3.7)


class StreamCodec(StrEnum):
    """Codecs that are read; the values are FFmpeg's names of the decoders."""

    H264 = "h264"
    HEVC = "hevc"
    AAC = "aac"
    OPUS = "opus"
    MP2 = "mp2"
    AC3 = "ac3"

    __hash__ = str.__hash__

    @property
    def is_video(self) -> bool:
        """Whether it is a codec of pictures."""
        return self in (StreamCodec.H264, StreamCodec.HEVC)


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """One stream of a program.

    Attributes:
        pid: which packets are its.
        codec: None where it is none that is read here.
        channels: of sound, where the program map says it; else 0.
    """

    pid: int
    codec: StreamCodec | None
    channels: int = 0


@dataclass(frozen=True, slots=True)
class AccessUnit:
    """The payload of one PES packet.

    Attributes:
        stream: where it came from.
        data: a picture in Annex B form, or one or more packets of sound.
        pts, dts: in 1/90000 s, counted on where their 33 bits wrap; None where the stream does not say.
        after_loss: something was lost before it in this stream; pictures that refer to others may be wrong until the
            next one that does not.
    """

    stream: StreamInfo
    data: bytes
    pts: int | None
    dts: int | None
    after_loss: bool = False
