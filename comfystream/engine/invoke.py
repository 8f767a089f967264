"""Calling a node with all of ComfyUI's rules: list mapping, blocked arguments, every form of result.

The rules are those of ComfyUI's executor; the common case (one item per slot, a plain tuple back) does not come through
here (see `fast.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from comfystream.engine.step import Step
from comfystream.engine.values import Items, as_items
from comfystream.errors import EngineError

__all__ = ["CallResult", "blocked_in", "call_arguments", "merge", "merge_ui", "normalise"]


@dataclass(frozen=True, slots=True)
class CallResult:
    """What one call of a node gave.

    Attributes:
        values: per output slot; None when the node gave no outputs.
        ui: what it shows in the editor, or None.
        expand: a graph in API form that stands for this node, or None; `values` may then hold links into it.
    """

    values: tuple[Any, ...] | None
    ui: Mapping[str, Any] | None = None
    expand: Mapping[str, Any] | None = None


def call_arguments(step: Step, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Keyword arguments of each call.

    Args:
        step: the node.
        values: input name to slot value (one item, or `Items`).

    Returns:
        One dict per call: one for `INPUT_IS_LIST` and for nodes without inputs, else as many as the longest list;
        shorter lists repeat their last item.

    Raises:
        EngineError: an input list is empty, so there is nothing to call the node with.
    """
    if step.spec.input_is_list:
        return [{name: list(as_items(value)) for name, value in values.items()}]
    count = 1
    for name, value in values.items():
        if type(value) is Items:
            if not value:
                raise EngineError(
                    f'input "{name}" is an empty list', hint="the node before it gave no items", node_id=step.id
                )
            count = max(count, len(value))
    if count == 1:
        return [{name: value[0] if type(value) is Items else value for name, value in values.items()}]
    return [
        {
            name: (value[i] if i < len(value) else value[-1]) if type(value) is Items else value
            for name, value in values.items()
        }
        for i in range(count)
    ]


def blocked_in(step: Step, arguments: Mapping[str, Any], blocker: type) -> Any | None:
    """The first `ExecutionBlocker` among the arguments of a call, or None."""
    for value in arguments.values():
        if type(value) is blocker:
            return value
        if step.spec.input_is_list:
            for item in value if isinstance(value, list) else ():
                if type(item) is blocker:
                    return item
    return None


def normalise(step: Step, raw: Any, blocker: type) -> CallResult:
    """One form for everything a node may return: tuple, list, dict, None, a blocker, a V3 `NodeOutput`.

    A bare blocker (also a V3 node's `block_execution` without values) blocks every slot.

    Raises:
        EngineError: something else, or an expansion from a V3 node that does not declare it.
    """
    slots = len(step.spec.output_types)
    if type(raw) is tuple:
        return CallResult(raw)
    if raw is None:
        return CallResult(None)
    if isinstance(raw, blocker):
        return CallResult((raw,) * slots)
    if isinstance(raw, dict):
        return _from_parts(step, raw.get("result"), raw.get("ui"), raw.get("expand"), blocker)
    if hasattr(raw, "block_execution"):  # a V3 NodeOutput, of whichever module
        if raw.block_execution is not None:
            return CallResult((blocker(raw.block_execution),) * slots, _ui(raw.ui))
        return _from_parts(step, raw.result, raw.ui, raw.expand, blocker)
    if isinstance(raw, Sequence) and not isinstance(raw, str | bytes):
        return CallResult(tuple(raw))
    raise EngineError(
        f"returned {type(raw).__name__} where a tuple of outputs was expected",
        hint="a node returns a tuple, even for one output: `return (image,)`",
        node_id=step.id,
    )


def _from_parts(step: Step, result: Any, ui: Any, expand: Any, blocker: type) -> CallResult:
    if expand is not None and step.spec.api == "v3" and not step.spec.enable_expand:
        raise EngineError("returned an expansion but its schema does not say enable_expand=True", node_id=step.id)
    if isinstance(result, blocker):
        result = (result,) * len(step.spec.output_types)
    return CallResult(tuple(result) if result is not None else None, _ui(ui), expand)


def _ui(ui: Any) -> Mapping[str, Any] | None:
    if ui is None or isinstance(ui, Mapping):
        return ui
    shown: Mapping[str, Any] = ui.as_dict()
    return shown


def merge(step: Step, calls: Sequence[tuple[Any, ...] | None]) -> tuple[Any, ...]:
    """Slot values out of the values of each call.

    A plain slot gets one item per call (an `Items` value, as an expansion may give, contributes all of its items); an
    `OUTPUT_IS_LIST` slot gets the lists of all calls joined.
    """
    given = [values for values in calls if values is not None]
    if not given:
        return ()
    is_list = step.spec.output_is_list
    slots = []
    for slot in range(len(given[0])):
        items = Items()
        for values in given:
            value = values[slot] if slot < len(values) else None
            if type(value) is Items or (slot < len(is_list) and is_list[slot] and isinstance(value, list | tuple)):
                items.extend(value)
            else:
                items.append(value)
        slots.append(items[0] if len(items) == 1 else items)
    return tuple(slots)


def merge_ui(shown: Sequence[Mapping[str, Any] | None]) -> dict[str, list[Any]] | None:
    """What several calls show: the keys of the first, the lists of all."""
    given = [ui for ui in shown if ui]
    if not given:
        return None
    return {key: [item for ui in given for item in ui.get(key, ())] for key in given[0]}
