"""V3 inputs whose names depend on what is given: autogrow groups, dynamic combos and dynamic slots.

In a workflow they are flat dotted names (`images.image0`, `mode.strength`). `expand_dynamic` gives the flat inputs that
are in force for the names a node has; `nest_inputs` folds the values into the nested dicts that the node expects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from comfystream.catalog.spec import NodeSpec, find_input

__all__ = ["DYNAMIC_TYPES", "EffectiveInputs", "expand_dynamic", "has_dynamic_inputs", "nest_inputs"]

AUTOGROW = "COMFY_AUTOGROW_V3"
DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
DYNAMIC_SLOT = "COMFY_DYNAMICSLOT_V3"
DYNAMIC_TYPES = frozenset({AUTOGROW, DYNAMIC_COMBO, DYNAMIC_SLOT})

Declared = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class EffectiveInputs:
    """Inputs in force for a node with certain inputs given.

    Attributes:
        inputs: section to flat name to spec, like `NodeSpec.inputs` without "hidden".
        paths: flat name to the dotted place of its value in the nested inputs; names without a dot in them that are
            no part of anything dynamic are not in it.
        empty_groups: names in `paths` whose value is `{}` when none is given.
    """

    inputs: dict[str, dict[str, Any]] = field(default_factory=lambda: {"required": {}, "optional": {}})
    paths: dict[str, str] = field(default_factory=dict)
    empty_groups: set[str] = field(default_factory=set)

    def input(self, name: str) -> tuple[Any, Mapping[str, Any], str] | None:
        """As `NodeSpec.input`, for a flat name."""
        return find_input(self.inputs, name)


def has_dynamic_inputs(inputs: Declared) -> bool:
    """Whether any declared input is of a dynamic type."""
    return any(
        _type_of(entry) in DYNAMIC_TYPES
        for section in ("required", "optional")
        for entry in (inputs.get(section) or {}).values()
    )


def expand_dynamic(spec: NodeSpec, given: Mapping[str, Any]) -> EffectiveInputs:
    """The inputs in force.

    Args:
        spec: a node class.
        given: the node's inputs by flat name; only the values of dynamic combos are looked at (the chosen option).
    """
    out = EffectiveInputs()
    _declare(out, {k: v for k, v in spec.inputs.items() if k != "hidden"}, given, "")
    return out


def nest_inputs(effective: EffectiveInputs, values: Mapping[str, Any], *, as_pairs: bool = False) -> dict[str, Any]:
    """Fold flat values into nested dicts along `effective.paths`.

    Args:
        effective: from `expand_dynamic`.
        values: by flat name.
        as_pairs: each dynamic leaf becomes `(value, flat name)`, which is what `check_lazy_status` gets.
    """
    out = {name: value for name, value in values.items() if name not in effective.paths}
    for name, path in effective.paths.items():
        value = values.get(name)
        if value is None and name in effective.empty_groups:
            value = {}
        *groups, leaf = path.split(".")
        place = out
        for group in groups:
            place = place.setdefault(group, {})
        place[leaf] = (value, name) if as_pairs else value
    return out


def _type_of(entry: Any) -> Any:
    kind = entry[0] if isinstance(entry, tuple | list) and entry else None
    return kind if isinstance(kind, str) else None


def _declare(out: EffectiveInputs, declared: Declared, given: Mapping[str, Any], prefix: str) -> None:
    for section, entries in declared.items():
        for name, entry in entries.items():
            flat = f"{prefix}.{name}" if prefix else name
            kind = _type_of(entry)
            if kind == AUTOGROW:
                _declare_group(out, entry[1]["template"], given, flat)
            elif kind == DYNAMIC_COMBO:
                _declare_choice(out, entry, given, section, flat)
            elif kind == DYNAMIC_SLOT:
                _declare_slot(out, entry, given, section, flat)
            else:
                out.inputs.setdefault(section, {})[flat] = entry
                if prefix:
                    out.paths[flat] = flat


def _declare_group(out: EffectiveInputs, template: Mapping[str, Any], given: Mapping[str, Any], group: str) -> None:
    entry, is_required = _template_entry(template["input"])
    present = False
    for index, name in enumerate(_group_names(template)):
        flat = f"{group}.{name}"
        section = "required" if is_required and index < template["min"] else "optional"
        out.inputs[section][flat] = entry
        if flat in given:
            out.paths[flat] = flat
            present = True
    if not present:
        out.paths[group] = group
        out.empty_groups.add(group)


def _template_entry(declared: Declared) -> tuple[Any, bool]:
    for section, entries in declared.items():
        for entry in entries.values():
            return entry, section == "required"
    raise ValueError("an autogrow template without an input")


def _group_names(template: Mapping[str, Any]) -> Iterator[str]:
    if "names" in template:
        yield from template["names"]
    else:
        yield from (f"{template['prefix']}{index}" for index in range(template["max"]))


def _declare_choice(out: EffectiveInputs, entry: Any, given: Mapping[str, Any], section: str, flat: str) -> None:
    chosen = given.get(flat)
    for option in entry[1]["options"]:
        if option["key"] == chosen:
            _declare(out, option["inputs"], given, flat)
            _declare_self(out, entry, section, flat)


def _declare_slot(out: EffectiveInputs, entry: Any, given: Mapping[str, Any], section: str, flat: str) -> None:
    if flat in given:
        _declare(out, entry[1]["inputs"], given, flat)
        _declare_self(out, entry, section, flat)


def _declare_self(out: EffectiveInputs, entry: Any, section: str, flat: str) -> None:
    # its own value lies beside its children, under its own last name: {"mode": {"mode": "fast", "strength": 1.0}}
    out.inputs[section][flat] = entry
    out.paths[flat] = f"{flat}.{flat.rpartition('.')[2]}"
