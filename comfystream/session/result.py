"""What a file job says while it runs and when it is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from comfystream.engine.protocol import NodeTiming
from comfystream.session.stages import Stage

__all__ = ["FileResult", "JobProgress"]


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is.

    Attributes:
        phase: "prepare", "run" or "finish".
        frames: frames (or buffers of sound) that were written.
        media_s: media time that was written.
        total_s: media time of the whole; None when unknown.
        fps: pictures per second lately; 0 when unknown.
        left_s: seconds until the end; None when unknown.
        dropped: pictures that were dropped.
        words: what a node says that it does while the workflow is prepared; empty when it says nothing.
    """

    phase: str
    frames: int = 0
    media_s: float = 0.0
    total_s: float | None = None
    fps: float = 0.0
    left_s: float | None = None
    dropped: int = 0
    words: str = ""


@dataclass(frozen=True, slots=True)
class FileResult:
    """What a job made.

    Attributes:
        target: the file that was written; None when there is none.
        texts: side files with what the workflow said.
        width, height: of the result's pictures; 0 without pictures.
        frames: pictures that were written.
        sound: "copied", "encoded" or "" (there is none).
        duration_s: media time of the result.
        size_bytes: of the result.
        prepare_s: loading the workflow.
        run_s: from the first frame to the finished file.
        stages, nodes: where the time went.
        dropped: frames by the reason why they were dropped.
        failed: frames whose node raised.
        interrupted: whether a person ended it early.
        broken: why the source ended early; empty when it did not.
    """

    target: Path | None
    texts: tuple[Path, ...]
    width: int
    height: int
    frames: int
    sound: str
    duration_s: float
    size_bytes: int
    prepare_s: float
    run_s: float
    stages: tuple[Stage, ...]
    nodes: tuple[NodeTiming, ...]
    dropped: Mapping[str, int]
    failed: int
    interrupted: bool = False
    broken: str = ""

    @property
    def fps(self) -> float:
        """Pictures per second that were made."""
        return self.frames / self.run_s if self.run_s > 0 else 0.0
