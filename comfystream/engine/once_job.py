"""What a single run of a workflow is asked for and what it gives. Plain data: it crosses to the engine's process.

Pictures and sound lie in files of a folder that belongs to the job: whoever asks writes the inputs there, the engine
writes the results there. Nothing large crosses the pipe on which live frames are announced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from comfystream.errors import EngineError
from comfystream.workflow.model import Workflow

__all__ = ["OnceDone", "OnceJob", "OnceStopped", "Result", "ResultKind", "Wanted"]

ResultKind = Literal["image", "video", "audio", "text"]


class OnceStopped(EngineError):
    """A single run was stopped before its end, because it was asked to."""

    default_code = "stopped"


@dataclass(frozen=True, slots=True)
class Wanted:
    """In what form results are written.

    Attributes:
        image: "png", "jpeg" or "webp".
        quality: of the latter two, 1..100.
        as_video: pictures of one output become an MP4, with the sound that the workflow gives.
        fps: of that.
        most_bytes: of all results together; 0 for no limit.
        most_results: how many there may be; 0 for no limit.
    """

    image: str = "png"
    quality: int = 90
    as_video: bool = False
    fps: float = 24.0
    most_bytes: int = 0
    most_results: int = 0


@dataclass(frozen=True, slots=True)
class OnceJob:
    """One run.

    Attributes:
        workflow: the graph, its values as they are wanted.
        folder: of the job.
        given: file in `folder` by node id, for nodes that load a picture or sound: what they are to give.
        size: width and height that given pictures are brought to (the whole picture, cropped in the middle where the
            shape differs); None leaves them.
        wanted: in what form.
    """

    workflow: Workflow
    folder: str
    given: Mapping[str, str] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    wanted: Wanted = field(default_factory=Wanted)


@dataclass(frozen=True, slots=True)
class Result:
    """One thing that came out.

    Attributes:
        kind: what it is.
        node_id: the output node.
        file: its name in the job's folder; empty for a text.
        mime: of the file.
        text: of a text.
        width, height: of pictures.
    """

    kind: ResultKind
    node_id: str
    file: str = ""
    mime: str = ""
    text: str = ""
    width: int = 0
    height: int = 0


@dataclass(frozen=True, slots=True)
class OnceDone:
    """What a run gave.

    Attributes:
        results: in the order of the output nodes.
        ran: ids of the nodes that were called; the others' results were kept from before.
    """

    results: tuple[Result, ...]
    ran: tuple[str, ...]
