"""What flows: video frames, audio frames and text cues, each with the identity of the input that made it.

A picture stays an `av.VideoFrame` (planes and pixel format as the decoder made them) until a node really reads it: a
frame that no node touches is never converted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING, TypeVar, dataclass_transform

if TYPE_CHECKING:
    import av
    import numpy as np

__all__ = ["AudioFrame", "Frame", "Lane", "Stamps", "TextCue", "VideoFrame"]


class Lane(StrEnum):
    """What a tick is driven by: one input modality, or the graph's own clock when it has no input."""

    VIDEO = "video"
    AUDIO = "audio"
    CLOCK = "clock"

    __hash__ = str.__hash__  # Enum's own is a Python function, and lanes are looked up several times per tick


_Record = TypeVar("_Record")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def _record(cls: type[_Record]) -> type[_Record]:
    """A dataclass that is frozen for who checks types.

    At run time a frozen one takes five times as long to make, and several are made per picture.
    """
    return dataclass(slots=True)(cls)


@dataclass(slots=True)
class Stamps:
    """Monotonic nanoseconds at which a frame passed each stage; 0 where it has not been (yet)."""

    captured: int = 0
    decoded: int = 0
    entered: int = 0
    computed: int = 0
    encoded: int = 0
    sent: int = 0


@_record
class VideoFrame:
    """One picture.

    Attributes:
        id: counts the inputs of a run from 0; an output carries the id of the input that made it.
        pts: media time in units of `time_base` seconds.
        image: planes and format as decoded; engines and sinks convert as late as possible.
        stamps: when it passed which stage.
    """

    id: int
    pts: int
    time_base: Fraction
    image: av.VideoFrame
    stamps: Stamps = field(default_factory=Stamps)


@_record
class AudioFrame:
    """A run of sound.

    Attributes:
        id: counts the audio inputs of a run from 0, separately from the pictures.
        pts: media time of the first sample in units of `time_base` seconds.
        samples: float32 [channels, samples], nominal range -1..1.
        sample_rate: samples per second and channel.
    """

    id: int
    pts: int
    time_base: Fraction
    samples: np.ndarray
    sample_rate: int
    stamps: Stamps = field(default_factory=Stamps)


@_record
class TextCue:
    """A string that a workflow put out (SaveTextTensor).

    Attributes:
        id: id of the input frame whose tick made it.
        pts: media time of that input in units of `time_base` seconds.
        duration: how much media time that input spans, in the same units; 0 when unknown.
        text: the string as the node had it.
        node_id: the output node that put it out.
    """

    id: int
    pts: int
    time_base: Fraction
    text: str
    duration: int = 0
    node_id: str = ""


Frame = VideoFrame | AudioFrame | TextCue
