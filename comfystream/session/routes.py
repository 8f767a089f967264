"""Which way video, sound and text go between a source file, the graph and the result."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from comfystream.errors import ConfigError, MediaError

__all__ = ["Routes", "Way", "check_source", "routes"]


class Way(StrEnum):
    """Where a stream of the result comes from."""

    NONE = "none"  # the result has none
    GRAPH = "graph"  # what the workflow puts out
    FRAMES = "frames"  # the source's pictures, decoded and encoded again
    COPY = "copy"  # the source's packets as they are


@dataclass(frozen=True, slots=True)
class Routes:
    """The ways of one job.

    Attributes:
        video, audio: where the result's streams come from.
        reads_video, reads_audio: whether the source is decoded.
        feeds_video, feeds_audio: whether the graph gets it.
        has_text: whether the workflow puts out text.
    """

    video: Way
    audio: Way
    reads_video: bool
    reads_audio: bool
    feeds_video: bool
    feeds_audio: bool
    has_text: bool

    @property
    def is_clocked(self) -> bool:
        """Whether the graph ticks by itself."""
        return not (self.feeds_video or self.feeds_audio)


def routes(
    takes: Collection[str], gives: Collection[str], *, has_video: bool, has_audio: bool, changes_pictures: bool = False
) -> Routes:
    """Decide the ways.

    Video and sound that the workflow does not put out itself go through untouched; sound is then never encoded again,
    whether the graph hears it or not.

    Args:
        takes, gives: modalities of the workflow.
        has_video, has_audio: what the source has.
        changes_pictures: pictures are scaled, resampled or dropped on their way, so that packets cannot be copied.

    Raises:
        MediaError: the workflow needs what the source does not have.
    """
    for wanted, is_there, noun in (("video", has_video, "video"), ("audio", has_audio, "sound")):
        if wanted in takes and not is_there:
            raise MediaError(f"the workflow takes {noun}, but the input has none", code="missing_stream")
    video = Way.GRAPH if "video" in gives else Way.NONE
    if video is Way.NONE and has_video:
        video = Way.FRAMES if changes_pictures else Way.COPY
    audio = Way.GRAPH if "audio" in gives else Way.COPY if has_audio else Way.NONE
    return Routes(
        video=video,
        audio=audio,
        reads_video="video" in takes or video is Way.FRAMES,
        reads_audio="audio" in takes,
        feeds_video="video" in takes,
        feeds_audio="audio" in takes,
        has_text="text" in gives,
    )


def check_source(takes: Collection[str], has_source: bool) -> None:
    """A workflow with a live input needs a source, one without has no use for it.

    Raises:
        ConfigError: it is not so.
    """
    if takes and not has_source:
        what = " and ".join(sorted(takes))
        raise ConfigError(f"the workflow takes {what}, but there is no input", code="no_input", hint="name it: -i FILE")
    if not takes and has_source:
        raise ConfigError(
            "the workflow has no live input: it would not see the input file",
            code="no_live_input",
            hint="add a LoadTensor (video) or LoadAudioTensor (sound), or leave -i out",
        )
