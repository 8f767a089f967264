"""`NodeSpec` of a class in ComfyUI's V1 convention (`NODE_CLASS_MAPPINGS`)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from comfystream.catalog.dynamic import has_dynamic_inputs
from comfystream.catalog.spec import NodeSpec
from comfystream.errors import AssetError

__all__ = ["spec_from_v1", "taken_names"]


def spec_from_v1(
    key: str, cls: type, *, display_name: str = "", python_module: str = "nodes", pack: str = ""
) -> NodeSpec:
    """Read a V1 class.

    Args:
        key: its registry name.
        cls: the class; `INPUT_TYPES()` is called once.
        display_name: for people; the key when empty.
        python_module: used unless the class says where it belongs (`RELATIVE_PYTHON_MODULE`).
        pack: name of the pack it came from.

    Raises:
        AssetError: no `FUNCTION`, or no method of that name.
        Exception: whatever `INPUT_TYPES` raises.
    """
    inputs: Mapping[str, Mapping[str, Any]] = cls.INPUT_TYPES()  # type: ignore[attr-defined]
    function = getattr(cls, "FUNCTION", None)
    method = getattr(cls, function, None) if isinstance(function, str) else None
    if not isinstance(function, str) or not callable(method):
        raise AssetError(f"class {cls.__name__} ({key}) has no method {function!r}", hint="FUNCTION must name a method")
    output_types = _slots(getattr(cls, "RETURN_TYPES", ()))
    return NodeSpec(
        key=key,
        cls=cls,
        api="v1",
        inputs=inputs,
        function=function,
        output_types=output_types,
        output_names=output_names(output_types, _slots(getattr(cls, "RETURN_NAMES", None) or ())),
        output_is_list=output_flags(len(output_types), getattr(cls, "OUTPUT_IS_LIST", None)),
        input_is_list=bool(getattr(cls, "INPUT_IS_LIST", False)),
        is_output=getattr(cls, "OUTPUT_NODE", False) is True,
        is_async=inspect.iscoroutinefunction(method),
        not_idempotent=bool(getattr(cls, "NOT_IDEMPOTENT", False)),
        builds_on_first_call=bool(getattr(cls, "BUILDS_ON_FIRST_CALL", False)),
        has_fingerprint=hasattr(cls, "IS_CHANGED"),
        has_validation=hasattr(cls, "VALIDATE_INPUTS"),
        has_lazy_status=hasattr(cls, "check_lazy_status"),
        hidden={name: mark for name, mark in (inputs.get("hidden") or {}).items() if isinstance(mark, str)},
        validates=taken_names(getattr(cls, "VALIDATE_INPUTS", None)),
        has_dynamic_inputs=has_dynamic_inputs(inputs),
        has_intermediate_output=bool(getattr(cls, "HAS_INTERMEDIATE_OUTPUT", False)),
        display_name=display_name or key,
        category=str(getattr(cls, "CATEGORY", "sd")),
        description=str(getattr(cls, "DESCRIPTION", "")),
        python_module=getattr(cls, "RELATIVE_PYTHON_MODULE", None) or python_module,
        pack=pack,
    )


def taken_names(function: Callable[..., Any] | None) -> frozenset[str]:
    """Names of the arguments that `function` takes; "**" among them when it takes any."""
    if function is None:
        return frozenset()
    parameters = inspect.signature(function).parameters.values()
    return frozenset("**" if p.kind is p.VAR_KEYWORD else p.name for p in parameters if p.kind is not p.VAR_POSITIONAL)


def output_names(types: tuple[Any, ...], names: Iterable[Any]) -> tuple[str, ...]:
    """As many names as there are slots; a slot without a name is called after its type."""
    given = tuple(str(name) for name in names)[: len(types)]
    rest = types[len(given) :]
    return given + tuple(kind if isinstance(kind, str) else "COMBO" for kind in rest)


def output_flags(count: int, flags: Iterable[Any] | None) -> tuple[bool, ...]:
    """`OUTPUT_IS_LIST` cut or filled up to `count` slots."""
    given = tuple(bool(flag) for flag in flags or ())[:count]
    return given + (False,) * (count - len(given))


def _slots(declared: Any) -> tuple[Any, ...]:
    # ("IMAGE") for ("IMAGE",) is a common slip in packs
    return (declared,) if isinstance(declared, str) else tuple(declared)
