"""`NodeSpec` and cheap calls of a class in ComfyUI's V3 convention (`define_schema`), a real one or a stand-in's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from comfystream.catalog.dynamic import has_dynamic_inputs
from comfystream.catalog.spec import NodeSpec
from comfystream.catalog.v1 import output_flags, output_names, taken_names

__all__ = ["HiddenValues", "bind_v3", "is_overridden", "is_v3", "locked_class", "spec_from_v3"]


def is_v3(cls: type) -> bool:
    """Whether `cls` follows the V3 convention."""
    return callable(getattr(cls, "define_schema", None)) and callable(getattr(cls, "GET_SCHEMA", None))


def is_overridden(cls: type, name: str) -> bool:
    """Whether a class below the API's own base classes defines `name`.

    V3 base classes carry placeholders of the optional methods, so their mere presence says nothing.
    """
    base = getattr(cls, "GET_BASE_CLASS", lambda: object)()
    placeholder = getattr(getattr(base, name, None), "__func__", None)
    for owner in cls.__mro__:
        if owner is base:
            return False
        if name in vars(owner):
            return getattr(vars(owner)[name], "__func__", None) is not placeholder
    return False


def spec_from_v3(cls: Any, *, python_module: str = "nodes", pack: str = "") -> NodeSpec:
    """Read a V3 class; `define_schema()` is called twice (checked once, and for the inputs).

    Raises:
        Exception: whatever the schema's own checks raise.
    """
    schema = cls.GET_SCHEMA()
    inputs: Mapping[str, Mapping[str, Any]] = cls.INPUT_TYPES()
    output_types = tuple(cls.RETURN_TYPES)
    validates = is_overridden(cls, "validate_inputs")
    return NodeSpec(
        key=schema.node_id,
        cls=cls,
        api="v3",
        inputs=inputs,
        function="execute",
        output_types=output_types,
        output_names=output_names(output_types, cls.RETURN_NAMES),
        output_is_list=output_flags(len(output_types), cls.OUTPUT_IS_LIST),
        input_is_list=bool(schema.is_input_list),
        is_output=schema.is_output_node is True,
        is_async=inspect.iscoroutinefunction(cls.execute),
        not_idempotent=bool(schema.not_idempotent),
        has_fingerprint=is_overridden(cls, "fingerprint_inputs"),
        has_validation=validates,
        has_lazy_status=is_overridden(cls, "check_lazy_status"),
        hidden={name: _marker(mark) for name, mark in (inputs.get("hidden") or {}).items()},
        validates=taken_names(cls.validate_inputs) if validates else frozenset(),
        enable_expand=bool(getattr(schema, "enable_expand", False)),
        accept_all_inputs=bool(getattr(schema, "accept_all_inputs", False)),
        has_dynamic_inputs=has_dynamic_inputs(inputs),
        has_intermediate_output=bool(getattr(schema, "has_intermediate_output", False)),
        display_name=schema.display_name or schema.node_id,
        category=schema.category,
        description=schema.description or "",
        python_module=getattr(cls, "RELATIVE_PYTHON_MODULE", None) or python_module,
        pack=pack,
    )


def _marker(mark: Any) -> str:
    return str(mark if isinstance(mark, str) else mark[0])


class HiddenValues:
    """What a V3 node sees as `cls.hidden`: `unique_id`, `prompt`, ...; whatever was not asked for reads as None."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> None:
        return None


def locked_class(spec: NodeSpec, hidden_values: Mapping[str, Any]) -> Any:
    """A subclass of the V3 node class with `hidden` attached, whose attributes cannot be assigned.

    Make one per node of a graph and keep it; ComfyUI makes one per call, at 30 us each.

    Args:
        spec: a V3 spec.
        hidden_values: marker ("UNIQUE_ID", "PROMPT", ...) to value; what the node did not ask for is left out.
    """
    asked = {mark: hidden_values.get(mark) for mark in spec.hidden.values()}
    kept = HiddenValues({mark.lower(): value for mark, value in asked.items()})
    kind = type(spec.cls)
    locked: Any = type(f"Locked{kind.__name__}", (kind,), {"__setattr__": _refuse, "__delattr__": _refuse_delete})
    body = {"hidden": kept, "__module__": spec.cls.__module__, "__qualname__": spec.cls.__qualname__}
    return locked(spec.cls.__name__, (spec.cls,), body)


def _refuse(cls: type, name: str, value: object) -> None:
    if name in {"__abstractmethods__", "_abc_impl"}:  # ABCMeta sets these while it makes the class
        type.__setattr__(cls, name, value)
        return
    raise AttributeError(f"cannot set {name!r}: V3 node class {cls.__name__} keeps no state between calls")


def _refuse_delete(cls: type, name: str) -> None:
    raise AttributeError(f"cannot delete {name!r} of V3 node class {cls.__name__}")


def bind_v3(spec: NodeSpec, hidden_values: Mapping[str, Any], method: str = "execute") -> Callable[..., Any]:
    """The bound classmethod to call with the node's inputs as keywords.

    The return value is the node's own: a NodeOutput, a tuple, a dict, None or an ExecutionBlocker (of the API that
    the class was written against), or a coroutine of one when `spec.is_async`.

    Args:
        spec: a V3 spec.
        hidden_values: marker to value, as for `locked_class`; bind anew when they change.
        method: "execute", or "validate_inputs", "fingerprint_inputs", "check_lazy_status" where the spec has them.
    """
    return getattr(locked_class(spec, hidden_values), method)  # type: ignore[no-any-return]
