"""One view of a node class, whether it was written in ComfyUI's V1 or V3 convention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

__all__ = ["Catalog", "NodeSpec", "find_input"]


def find_input(inputs: Mapping[str, Mapping[str, Any]], name: str) -> tuple[Any, Mapping[str, Any], str] | None:
    """Type, options and section of `name` in what `INPUT_TYPES` gave; None when not declared."""
    for section in ("required", "optional"):
        declared = inputs.get(section)
        if declared is not None and name in declared:
            entry = declared[name]
            options = entry[1] if len(entry) > 1 and isinstance(entry[1], Mapping) else {}
            return entry[0], options, section
    return None


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """What the checks and the engine ask of a node class; read once when the class is loaded.

    Attributes:
        key: registry name (`class_type` in a workflow).
        cls: the class itself, unmodified.
        api: "v1" (`NODE_CLASS_MAPPINGS`) or "v3" (`comfy_entrypoint`).
        inputs: what `INPUT_TYPES()` returned: section ("required", "optional", "hidden") to name to spec. A section may
            be a dict subclass that "contains" any name: ask `name in section` and `section[name]`, do not iterate to
            find out whether an input is declared.
        function: name of the method to call.
        output_types: socket types, a string each (a list for legacy combo outputs).
        output_names: display names, as many as `output_types`.
        output_is_list: per output, whether the returned value is a list of items.
        input_is_list: whole lists are handed over in one call.
        is_output: `OUTPUT_NODE is True`.
        is_async: the function is a coroutine function.
        not_idempotent: the node id is part of its cache key.
        builds_on_first_call: `BUILDS_ON_FIRST_CALL`: it makes something for the size of its picture that takes
            long, such as engines, and keeps it for other instances; ours, V1 only.
        has_fingerprint: `IS_CHANGED` / an overridden `fingerprint_inputs`.
        has_validation: `VALIDATE_INPUTS` / an overridden `validate_inputs`.
        has_lazy_status: `check_lazy_status` (for V3: overridden).
        hidden: argument name to marker ("UNIQUE_ID", "PROMPT", "DYNPROMPT", "EXTRA_PNGINFO", ...). V1 functions get
            them as arguments, V3 nodes as attributes of `cls.hidden` (see `catalog.v3.bind_v3`).
        validates: input names that the validation function takes, which spares them the range and combo checks;
            "**" stands for all of them.
        enable_expand: the node may return an expansion (always True for V1, where nothing declares it).
        accept_all_inputs: constants that are not declared are handed over too (V3).
        has_dynamic_inputs: what is declared depends on what is given; see `catalog.dynamic.effective_inputs`.
        has_intermediate_output: its `ui` is worth sending although it is no root.
        display_name, category, description: for people.
        python_module: as ComfyUI reports it ("nodes", "custom_nodes.x", "comfy_extras.y").
        pack: name of the pack it came from ("comfystream", "core", a folder name).
    """

    key: str
    cls: type
    api: Literal["v1", "v3"]
    inputs: Mapping[str, Mapping[str, Any]]
    function: str
    output_types: tuple[Any, ...]
    output_names: tuple[str, ...]
    output_is_list: tuple[bool, ...]
    input_is_list: bool = False
    is_output: bool = False
    is_async: bool = False
    not_idempotent: bool = False
    builds_on_first_call: bool = False
    has_fingerprint: bool = False
    has_validation: bool = False
    has_lazy_status: bool = False
    hidden: Mapping[str, str] = field(default_factory=dict)
    validates: frozenset[str] = frozenset()
    enable_expand: bool = True
    accept_all_inputs: bool = False
    has_dynamic_inputs: bool = False
    has_intermediate_output: bool = False
    display_name: str = ""
    category: str = ""
    description: str = ""
    python_module: str = ""
    pack: str = ""

    def input(self, name: str) -> tuple[Any, Mapping[str, Any], str] | None:
        """Type, options and section ("required" or "optional") of a declared input; None when it is not declared.

        The type is a string ("IMAGE", "INT", "A,B", "*", "COMBO") or the list of a legacy combo.
        """
        return find_input(self.inputs, name)


class Catalog(Protocol):
    """Where node classes are looked up."""

    def get(self, class_type: str) -> NodeSpec | None:
        """The class with that key, or None."""
        ...

    def keys(self) -> list[str]:
        """All keys, sorted."""
        ...
