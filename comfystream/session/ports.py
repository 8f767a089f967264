"""What a file job asks of the files that it writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from comfystream.frames import AudioFrame, TextCue, VideoFrame

__all__ = ["Sink", "TextSink", "Written"]


@dataclass(frozen=True, slots=True)
class Written:
    """What a sink has made: pictures' size and number, media time, bytes."""

    width: int
    height: int
    frames: int
    duration_s: float
    size_bytes: int


class Sink(Protocol):
    """A file that appears when it is complete."""

    def write(self, frame: VideoFrame | AudioFrame) -> None:
        """Encode a frame.

        Raises:
            MediaError: it cannot be encoded or written.
        """
        ...

    def finish(self) -> Written:
        """Write what is left and put the file in its place."""
        ...

    def discard(self) -> None:
        """Leave nothing behind. Idempotent; nothing happens after `finish`."""
        ...


class TextSink(Protocol):
    """A side file of text."""

    def write(self, cue: TextCue) -> None:
        """Add a cue."""
        ...

    def finish(self) -> None:
        """Put the file in its place."""
        ...

    def discard(self) -> None:
        """Leave nothing behind. Idempotent; nothing happens after `finish`."""
        ...
