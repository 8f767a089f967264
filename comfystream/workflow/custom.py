"""Calls of a node class's own validation: VALIDATE_INPUTS (V1) and validate_inputs (V3), plain or async."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from comfystream.catalog.dynamic import EffectiveInputs, nest_inputs
from comfystream.catalog.spec import NodeSpec
from comfystream.workflow.model import Link, Literal, Node

__all__ = ["Validator", "custom_faults", "validator_of"]

TYPES_ARGUMENT = "input_types"
_HIDDEN: Mapping[str, Any] = {"PROMPT": {}, "DYNPROMPT": None, "EXTRA_PNGINFO": None}


@dataclass(frozen=True, slots=True)
class Validator:
    """A node class's own validation.

    Attributes:
        function: what to call, with keyword arguments.
        names: the parameters that it names.
        takes_all: it has `**kwargs`.
    """

    function: Callable[..., Any]
    names: frozenset[str]
    takes_all: bool

    def takes(self, name: str) -> bool:
        """Whether it judges the input `name`, which spares that input the standard range and list checks."""
        return self.takes_all or name in self.names

    @property
    def takes_types(self) -> bool:
        """Whether it judges the types of the links itself."""
        return TYPES_ARGUMENT in self.names


def validator_of(spec: NodeSpec, node_id: str) -> Validator | None:
    """The validation of a class, or None when it has none."""
    if not spec.has_validation:
        return None
    owner = _with_hidden(spec.cls, node_id) if spec.api == "v3" else spec.cls
    function = getattr(owner, "validate_inputs" if spec.api == "v3" else "VALIDATE_INPUTS")
    arguments = inspect.getfullargspec(function)
    return Validator(function, frozenset(arguments.args), arguments.varkw is not None)


def custom_faults(
    validator: Validator,
    node: Node,
    spec: NodeSpec,
    effective: EffectiveInputs,
    received_types: Mapping[str, Any],
) -> list[tuple[str, str]]:
    """Input name and details of everything that the class's own validation rejects.

    Links arrive as None; with several parameters one rejection is reported for each, as ComfyUI does.
    """
    arguments = {name: value for name, value in _arguments(node, spec, effective).items() if validator.takes(name)}
    if validator.takes_types:
        arguments[TYPES_ARGUMENT] = dict(received_types)
    if spec.input_is_list:
        call = {name: [value] for name, value in arguments.items()}
    else:
        call = arguments
    answer = _finished(validator.function(**nest_inputs(effective, call)))
    # a blocker is no rejection; its class is the host's, so it goes by name
    if answer is True or type(answer).__name__ == "ExecutionBlocker":
        return []
    reason = "" if answer is False else f" - {answer}"
    return [(name, f"{name}{reason}") for name in arguments]


def _arguments(node: Node, spec: NodeSpec, effective: EffectiveInputs) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in node.inputs.items():
        if isinstance(value, Link):
            values[name] = None
        elif effective.get(name) is not None or name in spec.hidden:
            values[name] = value.value if isinstance(value, Literal) else value
    if spec.api == "v1":
        hidden = dict(spec.hidden)
        values |= {name: _HIDDEN[marker] for name, marker in hidden.items() if marker in _HIDDEN}
        values |= {name: node.id for name, marker in hidden.items() if marker == "UNIQUE_ID"}
    return values


def _with_hidden(cls: type, node_id: str) -> type:
    return type(cls.__name__, (cls,), {"hidden": _Hidden(node_id), "__module__": cls.__module__})


class _Hidden:
    """What V3 validation sees as `cls.hidden`: the node's id; everything else is None while nothing runs."""

    def __init__(self, unique_id: str) -> None:
        self.unique_id = unique_id

    def __getattr__(self, name: str) -> None:
        return None


def _finished(answer: Any) -> Any:
    """The answer itself, after running it to its end when it is a coroutine, also below a running event loop."""
    if not inspect.iscoroutine(answer):
        return answer
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_as_coroutine(answer))
    with ThreadPoolExecutor(1, "validate") as pool:
        return pool.submit(asyncio.run, _as_coroutine(answer)).result()


async def _as_coroutine(answer: Coroutine[Any, Any, Any]) -> Any:
    return await answer
