"""The control protocol, version 1: every message that is said over a WebSocket, the data channel `comfystream` or REST.

A controller sends requests and gets one `Reply` for each; `Notice`s come by themselves.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, model_validator

from comfystream.engine.protocol import FailPolicy
from comfystream.session.live_size import SizeRule
from comfystream.workflow.edits import Patch
from comfystream.workflow.presets import NAME

from .described import SessionInfo
from .said import Said

__all__ = [
    "VERSION",
    "AddSink",
    "ApplyPreset",
    "Cancel",
    "DeletePreset",
    "Describe",
    "ErrorBody",
    "FileChoice",
    "NoChoice",
    "Notice",
    "PatchValues",
    "PatternChoice",
    "Pause",
    "PushTo",
    "RecordTo",
    "Redo",
    "RemoveSink",
    "Reply",
    "Request",
    "Resume",
    "SavePreset",
    "SetFailPolicy",
    "SetSource",
    "SetSize",
    "SetWorkflow",
    "SourceChoice",
    "Undo",
    "UrlChoice",
    "ViewerChoice",
    "request_adapter",
]

VERSION = 1
Id = Annotated[str, Field(max_length=200)] | int | None


class _Message(Said):
    model_config = ConfigDict(extra="forbid")


class _Request(_Message):
    """`id` comes back in the reply. `base_revision`: refuse the edit unless this revision is in force."""

    v: Literal[1] = 1
    id: Id = None
    base_revision: int | None = None


class PatchValues(_Request):
    """Change values of the workflow, all or none."""

    type: Literal["patch"]
    patches: list[Patch] = Field(min_length=1, max_length=1000)


class SetWorkflow(_Request):
    """Replace the workflow, by one of the server's (`name`) or by JSON in API or editor format."""

    type: Literal["set_workflow"]
    name: str | None = Field(None, max_length=200)
    workflow: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> SetWorkflow:
        if (self.name is None) == (self.workflow is None):
            raise ValueError("give either name or workflow")
        return self


class Undo(_Request):
    """Back to the revision before."""

    type: Literal["undo"]


class Redo(_Request):
    """Forward to the revision that was undone last."""

    type: Literal["redo"]


class Cancel(_Request):
    """Withdraw the edit that is being prepared, whoever asked for it; its own reply has the error code `cancelled`."""

    type: Literal["cancel"]


class Pause(_Request):
    """Drop frames; the last picture stays."""

    type: Literal["pause"]


class Resume(_Request):
    """Go on."""

    type: Literal["resume"]


class SetFailPolicy(_Request):
    """What is shown for a frame whose node raised."""

    type: Literal["fail_policy"]
    policy: FailPolicy


class RecordTo(_Message):
    """A recording in the server's folder: fragmented MP4. Without `name` it gets the session's, and the time."""

    type: Literal["record"]
    name: str = Field("", max_length=120)


class PushTo(_Message):
    """A receiver of RTMP, SRT or RTSP that the operator allows. `kbps` is for the pictures."""

    type: Literal["push"]
    url: str = Field(min_length=1, max_length=2000)
    kbps: int = Field(2500, ge=100, le=50_000)


class AddSink(_Request):
    """Record or push the output, beside what else is done with it; the reply has the sink's id."""

    type: Literal["add_sink"]
    sink: Annotated[RecordTo | PushTo, Field(discriminator="type")]


class RemoveSink(_Request):
    """End a sink; a recording is complete when the reply comes."""

    type: Literal["remove_sink"]
    sink: str = Field(max_length=80)


class ViewerChoice(_Message):
    """Nothing is chosen: of the viewers and publishers that send, the newest is the source."""

    type: Literal["viewer"]


class NoChoice(_Message):
    """Nobody sends, viewers neither: for workflows that need no input and tick by a clock."""

    type: Literal["none"]


class PatternChoice(_Message):
    """The test card with a running number; `has_sound` adds a beep a second."""

    type: Literal["pattern"]
    width: int = Field(512, ge=16, le=3840, multiple_of=2)
    height: int = Field(512, ge=16, le=3840, multiple_of=2)
    fps: float = Field(30.0, ge=1, le=120, allow_inf_nan=False)
    has_sound: bool = False


class FileChoice(_Message):
    """A file of the server's folders, by its path in them, in real time; again and again while `is_looped`."""

    type: Literal["file"]
    path: str = Field(min_length=1, max_length=1024)
    is_looped: bool = True
    has_sound: bool = True


class UrlChoice(_Message):
    """A stream or a file at an address that the server's operator allows."""

    type: Literal["url"]
    url: str = Field(min_length=1, max_length=2048)


SourceChoice = Annotated[
    ViewerChoice | NoChoice | PatternChoice | FileChoice | UrlChoice, Field(discriminator="type")
]


class SetSource(_Request):
    """Choose where frames come from; what was chosen before goes on until the new one is open.

    With `is_keeping` the session goes on without viewers while the source does.
    """

    type: Literal["set_source"]
    source: SourceChoice
    is_keeping: bool = False


class SetSize(_Request):
    """What size the graph's pictures have: as they come, or made to fit or fill `width` x `height`.

    Sides that are left out stay; they must be even and from 16 to 4096.
    """

    type: Literal["set_size"]
    mode: SizeRule
    width: int | None = Field(None, ge=1, le=8192)
    height: int | None = Field(None, ge=1, le=8192)


PresetName = Annotated[str, Field(pattern=NAME)]


class SavePreset(_Request):
    """Keep all values that can be turned, as they are now, under a name; one of that name is replaced."""

    type: Literal["save_preset"]
    name: PresetName


class ApplyPreset(_Request):
    """Set the values that were kept under a name, all or none."""

    type: Literal["apply_preset"]
    name: PresetName


class DeletePreset(_Request):
    """Forget what was kept under a name."""

    type: Literal["delete_preset"]
    name: PresetName


class Describe(_Request):
    """Ask for `SessionInfo`."""

    type: Literal["describe"]


Request = Annotated[
    PatchValues
    | SetWorkflow
    | SetSource
    | Undo
    | Redo
    | Cancel
    | Pause
    | Resume
    | SetFailPolicy
    | AddSink
    | RemoveSink
    | SetSize
    | SavePreset
    | ApplyPreset
    | DeletePreset
    | Describe,
    Field(discriminator="type"),
]
request_adapter: TypeAdapter[Request] = TypeAdapter(Request)


class ErrorBody(_Message):
    """What is wrong: `code` for programs, `message` and `hint` for people, `field` where in the message.

    `node` is the workflow's node that it is about.
    """

    code: str
    message: str
    hint: str = ""
    field: str | None = None
    node: str | None = None


class Reply(_Message):
    """The answer to one request.

    `revision` is the one in force afterwards; `first_frame` is the id of the first frame that it made, None when no
    frames come at the moment. `sink` is the id of the one that was added.
    """

    v: Literal[1] = 1
    type: Literal["reply"] = "reply"
    id: Id = None
    ok: bool
    error: ErrorBody | None = None
    revision: int = 0
    first_frame: int | None = None
    info: SessionInfo | None = None
    sink: str | None = None


class Notice(_Message):
    """Something happened: `event` says what, `data` tells more.

    Events: state, revision, source, sink, size, presets, progress, prepare_failed, activated, rolled_back, node_failed,
    node_blocked, node_message, engine_lost, engine_restarted, pack_broken, shutdown, text, stats.
    """

    v: Literal[1] = 1
    type: Literal["event"] = "event"
    event: str
    revision: int = 0
    data: dict[str, Any] = {}
