"""Named sets of values of a workflow, to be recalled later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from comfystream.catalog.spec import Catalog
from comfystream.errors import WorkflowError
from comfystream.workflow.edits import Patch, SetValues, apply
from comfystream.workflow.model import Workflow

__all__ = ["NAME", "Preset", "PresetValue", "missing", "patches_of"]

NAME = r"^[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,62}[^\s\x00-\x1f\x7f])?$"  # one line, up to 64 characters
SHOWN = 5


class PresetValue(BaseModel):
    """The value of one input. With `class_type` the node has to be of that class to be taken for the same."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    node: str = Field(max_length=1000)
    input: str = Field(max_length=1000)
    value: Any
    class_type: str = Field(default="", max_length=1000)


class Preset(BaseModel):
    """A set of values.

    Attributes:
        name: what people call it.
        values: what it sets.
        workflow: name of the library's workflow that it was saved for; may be empty.
        revision: of the session when it was saved; 0 for one that came with a workflow.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=NAME)
    values: Sequence[PresetValue] = Field(min_length=1, max_length=1000)
    workflow: str = Field(default="", max_length=200)
    revision: int = 0


def missing(preset: Preset, workflow: Workflow, catalog: Catalog) -> list[str]:
    """What the workflow lacks of what the preset sets, in words; empty when it fits."""
    return [lack for value in preset.values if (lack := _lack(value, workflow, catalog))]


def _lack(value: PresetValue, workflow: Workflow, catalog: Catalog) -> str:
    node = workflow.nodes.get(value.node)
    if node is None or (value.class_type and node.class_type != value.class_type):
        return f'node {value.node} "{value.class_type}"' if value.class_type else f"node {value.node}"
    try:
        apply(workflow, SetValues(patches=[_patch(value)]), catalog)
    except WorkflowError as error:
        return error.message if error.code == "linked_input" else f'input "{value.input}" of {node.place}'
    return ""


def _patch(value: PresetValue) -> Patch:
    return Patch(node=value.node, input=value.input, value=value.value)


def patches_of(preset: Preset, workflow: Workflow, catalog: Catalog) -> list[Patch]:
    """What to change to recall the preset.

    Raises:
        WorkflowError: the workflow lacks some of its nodes or inputs; the message says which.
    """
    lacks = missing(preset, workflow, catalog)
    if lacks:
        more = f" and {len(lacks) - SHOWN} more" if len(lacks) > SHOWN else ""
        raise WorkflowError(
            f'the preset "{preset.name}" does not fit this workflow: {"; ".join(lacks[:SHOWN])}{more}',
            code="preset_does_not_fit",
            hint="nothing was changed; the workflow was edited since, save the preset anew",
        )
    return [_patch(value) for value in preset.values]
