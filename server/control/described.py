"""What a session is, as a controller is told it: its workflow, values, source, sinks, presets, how far a load is."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict

from comfystream.session.live_size import SizeRule

from .figures import SinkFigures
from .said import Said

__all__ = ["Parameter", "PresetInfo", "ProgressInfo", "SessionInfo", "SourceBody"]


class _Described(Said):
    model_config = ConfigDict(extra="forbid")


class Parameter(_Described):
    """A value of a node that can be patched, with what a control for it needs to know.

    `is_color`: the value is a colour, an int 0xRRGGBB or a text "#rrggbb".
    """

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
    is_color: bool = False
    tooltip: str = ""


class SourceBody(_Described):
    """The chosen source.

    `type` as in the choice, `name` for people, `sender` is who sends frames now, `reason` says why it is lost.
    """

    type: str = "viewer"
    name: str = ""
    state: Literal["viewers", "opening", "running", "reconnecting", "ended", "failed"] = "viewers"
    reason: str = ""
    sender: str = ""


class PresetInfo(_Described):
    """A set of values that can be recalled.

    `origin` says whether it came with the workflow or was saved; `revision` is the one that it was saved at.
    `fits`: the workflow in force has all its nodes and inputs.
    """

    name: str
    origin: Literal["workflow", "saved"]
    revision: int = 0
    fits: bool = True


class ProgressInfo(_Described):
    """How far the revision is that is being prepared; as in the event "progress"."""

    revision: int
    phase: str
    done: int
    total: int
    node_id: str | None
    value: float
    maximum: float
    message: str


class SessionInfo(_Described):
    """A session as it is now. `workflow` is in API format; `name` is one of the server's workflows, if it came so.

    `progress` is there while a workflow is being prepared.
    """

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
    source: SourceBody = SourceBody()
    size_mode: SizeRule = SizeRule.FOLLOW
    width: int = 0
    height: int = 0
    presets: list[PresetInfo] = []
    progress: ProgressInfo | None = None
