"""The catalog in the shape of ComfyUI's `/object_info`, as plain JSON data."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from enum import Enum
from functools import partial
from typing import Any

from comfystream.catalog.loader import attempt
from comfystream.catalog.packs import BrokenPack
from comfystream.catalog.registry import NodeCatalog
from comfystream.catalog.spec import NodeSpec

__all__ = ["node_info", "object_info"]

_log = logging.getLogger(__name__)
_WHEN_TRUE = {"DEPRECATED": "deprecated", "EXPERIMENTAL": "experimental", "DEV_ONLY": "dev_only"}
_WHEN_SET = {
    "OUTPUT_TOOLTIPS": "output_tooltips",
    "API_NODE": "api_node",
    "ESSENTIALS_CATEGORY": "essentials_category",
}


def object_info(catalog: NodeCatalog, *, fresh: bool = False) -> dict[str, Any]:
    """Key to description, for all classes. A class that cannot be described is left out, with a warning in the log.

    Args:
        catalog: the classes.
        fresh: read every class's inputs anew, since lists of files may have changed. ComfyUI does so at each request.
    """
    found: dict[str, Any] = {}
    for spec in catalog.specs():
        outcome = attempt(spec.pack, partial(_describe, catalog, spec, fresh), spec.key)
        if isinstance(outcome, BrokenPack):
            _log.warning("node %s is left out of object_info: %s", spec.key, outcome.message)
        else:
            found[spec.key] = outcome
    return found


def _describe(catalog: NodeCatalog, spec: NodeSpec, fresh: bool) -> dict[str, Any]:
    return node_info((catalog.refresh(spec.key) if fresh else None) or spec)


def node_info(spec: NodeSpec) -> dict[str, Any]:
    """One class in ComfyUI's shape: lists, dicts, strings, numbers, booleans and None only.

    Raises:
        TypeError: an input option that JSON has no form for.
    """
    cls: Any = spec.cls
    info = dict(cls.GET_NODE_INFO_V1()) if spec.api == "v3" else _v1_info(spec)
    info["python_module"] = spec.python_module
    plain: dict[str, Any] = to_plain(info, spec.key)
    return plain


def _v1_info(spec: NodeSpec) -> dict[str, Any]:
    cls: Any = spec.cls
    types = list(getattr(cls, "RETURN_TYPES", ()))
    info: dict[str, Any] = {
        "input": spec.inputs,
        "input_order": {section: list(entries) for section, entries in spec.inputs.items()},
        "is_input_list": spec.input_is_list,
        "output": types,
        "output_is_list": getattr(cls, "OUTPUT_IS_LIST", None) or [False] * len(types),
        "output_name": getattr(cls, "RETURN_NAMES", None) or types,
        "name": spec.key,
        "display_name": spec.display_name,
        "description": getattr(cls, "DESCRIPTION", ""),
        "category": spec.category,
        "output_node": spec.is_output,
        "has_intermediate_output": spec.has_intermediate_output,
        "search_aliases": getattr(cls, "SEARCH_ALIASES", []),
    }
    info.update({name: getattr(cls, flag) for flag, name in _WHEN_SET.items() if hasattr(cls, flag)})
    info.update({name: True for flag, name in _WHEN_TRUE.items() if getattr(cls, flag, False)})
    return info


def to_plain(value: Any, where: str) -> Any:
    """`value` in builtin JSON types: what crosses a process border must not need the pack's own classes.

    Args:
        value: what a pack declared.
        where: for the message.

    Raises:
        TypeError: something that JSON has no form for.
    """
    if isinstance(value, Enum):
        return to_plain(value.value, where)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): to_plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(item, where) for item in value]
    raise TypeError(f"{where}: {type(value).__name__} has no JSON form")
