"""What a person may ask of a file job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from comfystream.engine.protocol import FailPolicy
from comfystream.errors import ConfigError

__all__ = ["FileJobOptions"]


@dataclass(frozen=True, slots=True)
class FileJobOptions:
    """How one file is run through a workflow.

    Attributes:
        source: the file that is read; None for a workflow without a live input.
        target: the file that is written; None when only text is wanted.
        text: side file for what the workflow says; None puts it beside the target.
        size: width and height that pictures are brought to before the graph; None keeps theirs.
        fit: how they get there: "fit" (bars), "fill" (cut off) or "stretch".
        fps: constant frame rate that the graph gets (pictures are left out or repeated); None keeps the source's times.
        duration_s: stop after so much media time; None = all of it.
        frames: stop after so many pictures; None = all.
        realtime: pace the source like a camera; pictures that come while the graph is busy are dropped.
        on_error: what to write for a frame whose node raised.
        overwrite: whether files that exist may be replaced.
        keep_partial: keep what could be made of a source that breaks off.
        crf: quality of x264, 0 (lossless) to 51; None = the sink's default.
        preset: speed of x264 ("ultrafast" ... "veryslow"); None = the sink's default.
        decoder: "software", "nvdec" (on the GPU), or "auto" (there, where it works).
    """

    source: Path | None
    target: Path | None
    text: Path | None = None
    size: tuple[int, int] | None = None
    fit: str = "fit"
    fps: Fraction | None = None
    duration_s: float | None = None
    frames: int | None = None
    realtime: bool = False
    on_error: FailPolicy = FailPolicy.STOP
    overwrite: bool = False
    keep_partial: bool = False
    crf: int | None = None
    preset: str | None = None
    decoder: str = "software"

    @property
    def is_limited(self) -> bool:
        """Whether the source may be left before its end."""
        return self.duration_s is not None or self.frames is not None

    def text_files(self, nodes: Sequence[str]) -> list[Path]:
        """A side file for each of the nodes that put out text; with several, each has its node's id in the name.

        Raises:
            ConfigError: there is text and no place for it, or a place and no text.
        """
        if not nodes and self.text is not None:
            raise ConfigError(
                f"{self.text}: the workflow puts out no text", code="no_text", hint="it needs a SaveTextTensor"
            )
        if not nodes:
            return []
        file = self.text or (self.target.with_suffix(".jsonl") if self.target is not None else None)
        if file is None:
            raise ConfigError("there is no output", code="no_output", hint="name it: -o FILE, or --text FILE")
        if len(nodes) == 1:
            return [file]
        return [file.with_name(f"{file.stem}.{node.replace(':', '-')}{file.suffix}") for node in nodes]

    @property
    def clock_fps(self) -> Fraction:
        """Ticks per second of a workflow without a live input."""
        return self.fps if self.fps is not None else Fraction(30)

    def clock_ticks(self) -> int:
        """How many pictures a workflow without a live input makes.

        Raises:
            ConfigError: neither `duration_s` nor `frames` was given.
        """
        wanted = [] if self.frames is None else [self.frames]
        if self.duration_s is not None:
            wanted.append(max(1, round(self.duration_s * self.clock_fps)))
        if not wanted:
            raise ConfigError(
                "the workflow has no live input, so it would never end",
                code="no_length",
                hint="say how long the result is: --duration 5 or --frames 150",
            )
        return min(wanted)
