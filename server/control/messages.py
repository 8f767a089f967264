"""The control protocol, version 1: every message that is said over a WebSocket, the data channel `comfystream` or REST.

A controller sends requests and gets one `Reply` for each; `Notice`s come by themselves.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, model_validator

from comfystream.engine.protocol import FailPolicy
from comfystream.workflow.edits import Patch

from .figures import SinkFigures

from .said import Said

__all__ = [
    "VERSION",
    "AddSink",
    "Describe",
    "ErrorBody",
    "Notice",
    "Parameter",
    "PatchValues",
    "Pause",
    "PushTo",
    "RecordTo",
    "Redo",
    "RemoveSink",
    "Reply",
    "Request",
    "Resume",
    "SessionInfo",
    "SetFailPolicy",
    "SetWorkflow",
    "Undo",
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

    kind: Literal["record"]
    name: str = Field("", max_length=120)


class PushTo(_Message):
    """A receiver of RTMP, SRT or RTSP that the operator allows. `kbps` is for the pictures."""

    kind: Literal["push"]
    url: str = Field(min_length=1, max_length=2000)
    kbps: int = Field(2500, ge=100, le=50_000)


class AddSink(_Request):
    """Record or push the output, beside what else is done with it; the reply has the sink's id."""

    type: Literal["add_sink"]
    sink: Annotated[RecordTo | PushTo, Field(discriminator="kind")]


class RemoveSink(_Request):
    """End a sink; a recording is complete when the reply comes."""

    type: Literal["remove_sink"]
    sink: str = Field(max_length=80)


class Describe(_Request):
    """Ask for `SessionInfo`."""

    type: Literal["describe"]


Request = Annotated[
    PatchValues | SetWorkflow | Undo | Redo | Pause | Resume | SetFailPolicy | AddSink | RemoveSink | Describe,
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


class Parameter(_Message):
    """A value of a node that can be patched, with what a control for it needs to know."""

    node: str
    input: str
    title: str
    class_type: str
    label: str
    kind: Literal["int", "float", "boolean", "combo", "text"]
    value: Any
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    options: list[Any] = []
    is_multiline: bool = False
    tooltip: str = ""


class SessionInfo(_Message):
    """A session as it is now. `workflow` is in API format; `name` is one of the server's workflows, if it came so."""

    session: str
    state: str
    revision: int
    name: str = ""
    workflow: dict[str, Any] | None = None
    parameters: list[Parameter] = []
    can_undo: bool = False
    can_redo: bool = False
    fail_policy: str = "hold"
    viewers: int = 0
    sinks: list[SinkFigures] = []


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

    Events: state, revision, source, sink, progress, activated, rolled_back, node_failed, node_blocked,
    engine_restarted, text, stats.
    """

    v: Literal[1] = 1
    type: Literal["event"] = "event"
    event: str
    revision: int = 0
    data: dict[str, Any] = {}
