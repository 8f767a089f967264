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
    SOURCE = "source"  # the source's, untouched: pictures are encoded again, sound is copied as it is


@dataclass(frozen=True, slots=True)
class Routes:
    """The ways of one job.

    Attributes:
        video, audio: where the result's streams come from.
        reads_video, reads_audio: whether the source is decoded.
        is_clocked: whether the graph ticks by itself.
    """

    video: Way
    audio: Way
    reads_video: bool
    reads_audio: bool
    is_clocked: bool


def routes(
    takes: Collection[str], gives: Collection[str], *, has_video: bool, has_audio: bool, writes: bool = True
) -> Routes:
    """Decide the ways.

    Video and sound that the workflow does not put out itself go through untouched, whether the graph sees them or not;
    sound that goes through is never decoded for the result.

    Args:
        takes, gives: modalities of the workflow.
        has_video, has_audio: what the source has.
        writes: whether there is a result beside text.

    Raises:
        MediaError: the workflow needs what the source does not have.
    """
    for wanted, is_there, noun in (("video", has_video, "video"), ("audio", has_audio, "sound")):
        if wanted in takes and not is_there:
            raise MediaError(f"the workflow takes {noun}, but the input has none", code=f"no_{wanted}")

    def way(modality: str, is_there: bool) -> Way:
        if not writes:
            return Way.NONE
        return Way.GRAPH if modality in gives else Way.SOURCE if is_there else Way.NONE

    video = way("video", has_video)
    return Routes(
        video=video,
        audio=way("audio", has_audio),
        reads_video="video" in takes or video is Way.SOURCE,
        reads_audio="audio" in takes,
        is_clocked=not takes,
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
