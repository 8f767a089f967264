"""A catalog made of `/object_info` JSON, as a running ComfyUI answers it. There are no classes behind it.

It serves reading and checking: inputs, outputs and flags are those of the other install; what only the class itself
can tell (its own validation) is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from comfystream.catalog.dynamic import has_dynamic_inputs
from comfystream.catalog.spec import NodeSpec
from comfystream.errors import WorkflowError

__all__ = ["ObjectInfoCatalog", "spec_from_object_info"]


class ObjectInfoCatalog:
    """Node classes by key, from object_info JSON.

    Args:
        object_info: class key to what ComfyUI says about it.

    Raises:
        WorkflowError: it is no object_info JSON.
    """

    def __init__(self, object_info: Mapping[str, Any]) -> None:
        self._specs = {key: _checked(key, info) for key, info in object_info.items()}

    def get(self, class_type: str) -> NodeSpec | None:
        """The class with that key, or None."""
        return self._specs.get(class_type)

    def keys(self) -> list[str]:
        """All keys, sorted."""
        return sorted(self._specs)


def spec_from_object_info(key: str, info: Mapping[str, Any]) -> NodeSpec:
    """One class as object_info describes it."""
    inputs = _inputs(info)
    outputs = tuple(info.get("output") or ())
    return NodeSpec(
        key=key,
        cls=object,
        api="v3" if "price_badge" in info else "v1",  # only V3 classes are listed with all their fields
        inputs=inputs,
        function="",
        output_types=outputs,
        output_names=_padded(info.get("output_name"), [str(output) for output in outputs]),
        output_is_list=_padded(info.get("output_is_list"), [False] * len(outputs)),
        input_is_list=bool(info.get("is_input_list")),
        is_output=info.get("output_node") is True,
        hidden=_hidden(inputs.get("hidden", {})),
        has_dynamic_inputs=has_dynamic_inputs(inputs),
        display_name=info.get("display_name") or key,
        category=info.get("category") or "",
        description=info.get("description") or "",
        python_module=info.get("python_module") or "",
        pack=_pack(info.get("python_module") or ""),
    )


def _checked(key: str, info: Any) -> NodeSpec:
    if not isinstance(info, Mapping) or not isinstance(info.get("input"), Mapping):
        raise WorkflowError(
            f'entry "{key}" of the object_info is no node class',
            code="bad_object_info",
            hint="it is what ComfyUI answers at /object_info",
        )
    return spec_from_object_info(key, info)


def _inputs(info: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The sections in the order that the class declares, which a JSON tool may have lost."""
    order = info.get("input_order") or {}
    inputs: dict[str, dict[str, Any]] = {}
    for section, entries in info["input"].items():
        names = dict.fromkeys([*(name for name in order.get(section, ()) if name in entries), *entries])
        inputs[section] = {name: _entry(entries[name]) for name in names}
    return inputs


def _entry(entry: Any) -> Any:
    """JSON has lists where INPUT_TYPES has tuples; a hidden input is its bare marker."""
    return tuple(entry) if isinstance(entry, list) else entry


def _hidden(section: Mapping[str, Any]) -> dict[str, str]:
    return {name: marker[0] if isinstance(marker, tuple) else str(marker) for name, marker in section.items()}


def _padded(given: Iterable[Any] | None, otherwise: list[Any]) -> tuple[Any, ...]:
    values = list(given or ())
    return tuple([*values, *otherwise[len(values) :]][: len(otherwise)])


def _pack(module: str) -> str:
    parts = module.split(".")
    return parts[1] if parts[0] == "custom_nodes" and len(parts) > 1 else "core"
