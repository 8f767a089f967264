"""V3 inputs whose names depend on what is given: which flat, dotted inputs a node has, given the values that are there.

A dynamic combo shows the inputs of the chosen option as `combo.child`, an autogrow group its members as
`group.prefix0`, a dynamic slot its children once it is linked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from comfystream.catalog.spec import NodeSpec

__all__ = [
    "AUTOGROW",
    "DYNAMIC_COMBO",
    "DYNAMIC_SLOT",
    "EffectiveInputs",
    "chosen_option",
    "effective_inputs",
    "entry_parts",
    "group_names",
    "has_dynamic_inputs",
    "nest_inputs",
    "option_keys",
]

AUTOGROW = "COMFY_AUTOGROW_V3"
DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
DYNAMIC_SLOT = "COMFY_DYNAMICSLOT_V3"
_DYNAMIC = (AUTOGROW, DYNAMIC_COMBO, DYNAMIC_SLOT)
_SECTIONS = ("required", "optional")

Sections = Mapping[str, Mapping[str, Any]]


@dataclass(slots=True)
class EffectiveInputs:
    """The inputs of one node as they are for its present values.

    Attributes:
        required, optional: flat name to spec entry. Of a node without dynamic inputs these are the declared sections
            themselves, which may be dict subclasses that "contain" any name.
        paths: flat name of each value that belongs to a dynamic input, to its place in the nested value (dotted).
        empty_groups: autogrow groups without a value; the node gets `{}` for them.
        unchosen: dynamic combos whose value is absent or no option, name to spec entry. ComfyUI takes no notice of
            what such an input holds.
    """

    required: Mapping[str, Any] = field(default_factory=dict)
    optional: Mapping[str, Any] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)
    empty_groups: list[str] = field(default_factory=list)
    unchosen: dict[str, Any] = field(default_factory=dict)

    def __iter__(self) -> Iterator[str]:
        """The declared names, required ones first."""
        yield from self.required
        yield from (name for name in self.optional if name not in self.required)

    def get(self, name: str) -> tuple[Any, Mapping[str, Any], str] | None:
        """Type, options and section of an input; None when it is not declared."""
        for section, entries in (("required", self.required), ("optional", self.optional)):
            if name in entries:
                return (*entry_parts(entries[name]), section)
        return None


def entry_parts(entry: Any) -> tuple[Any, Mapping[str, Any]]:
    """Type and options of an entry of INPUT_TYPES; options that are left out are empty."""
    options = entry[1] if len(entry) > 1 and isinstance(entry[1], Mapping) else {}
    return entry[0], options


def effective_inputs(spec: NodeSpec, values: Mapping[str, Any]) -> EffectiveInputs:
    """The inputs that a node of class `spec` has when its inputs are `values` (flat names)."""
    if not has_dynamic_inputs(spec.inputs):
        return EffectiveInputs(spec.inputs.get("required") or {}, spec.inputs.get("optional") or {})
    growing = _Growing(values)
    growing.add(spec.inputs, ())
    sections = growing.sections
    return EffectiveInputs(sections["required"], sections["optional"], growing.paths, growing.empty, growing.unchosen)


def has_dynamic_inputs(sections: Sections) -> bool:
    """Whether any declared input is of a dynamic type."""
    entries = (entry for name in _SECTIONS for entry in (sections.get(name) or {}).values())
    return any(bool(entry) and isinstance(entry[0], str) and entry[0] in _DYNAMIC for entry in entries)


def nest_inputs(effective: EffectiveInputs, values: Mapping[str, Any], *, as_pairs: bool = False) -> dict[str, Any]:
    """Fold flat values into the nested dicts that the node expects.

    Args:
        effective: from `effective_inputs`.
        values: by flat name; a declared child without one is None.
        as_pairs: each dynamic leaf becomes `(value, flat name)`, which is what `check_lazy_status` gets.
    """
    out = {name: value for name, value in values.items() if name not in effective.paths}
    places = [*effective.paths.items(), *((group, group) for group in effective.empty_groups)]
    for name, path in places:
        value = {} if name in effective.empty_groups and values.get(name) is None else values.get(name)
        *groups, leaf = path.split(".")
        place = out
        for group in groups:
            place = place.setdefault(group, {})
        place[leaf] = (value, name) if as_pairs else value
    return out


class _Growing:
    """Collects the flat inputs while the declared ones are walked."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values
        self.sections: dict[str, dict[str, Any]] = {"required": {}, "optional": {}}
        self.paths: dict[str, str] = {}
        self.empty: list[str] = []
        self.unchosen: dict[str, Any] = {}

    def add(self, sections: Sections, prefix: tuple[str, ...]) -> None:
        for section in _SECTIONS:
            for name, entry in (sections.get(section) or {}).items():
                self._add_entry(section, (*prefix, name), entry)

    def _add_entry(self, section: str, path: tuple[str, ...], entry: Any) -> None:
        input_type = entry[0]
        if input_type == AUTOGROW:
            self._add_group(path, entry)
        elif input_type == DYNAMIC_COMBO:
            self._add_combo(section, path, entry)
        elif input_type == DYNAMIC_SLOT:
            self._add_slot(section, path, entry)
        else:
            name = ".".join(path)
            self.sections[section][name] = entry
            if len(path) > 1:
                self.paths[name] = name

    def _add_group(self, path: tuple[str, ...], entry: Any) -> None:
        template = entry_parts(entry)[1].get("template", {})
        member, is_required = _template_entry(template)
        names = group_names(template)
        taken = False
        for index, name in enumerate(names):
            flat = ".".join((*path, name))
            section = "required" if is_required and index < template.get("min", 0) else "optional"
            self.sections[section][flat] = member
            if flat in self.values:
                self.paths[flat] = flat
                taken = True
        if not taken:
            self.empty.append(".".join(path))

    def _add_combo(self, section: str, path: tuple[str, ...], entry: Any) -> None:
        name = ".".join(path)
        option = chosen_option(entry, self.values[name]) if name in self.values else None
        if option is None:
            if section == "required" or name in self.values:
                self.unchosen[name] = entry
            return
        self.add(option, path)
        self.sections[section][name] = entry
        self.paths[name] = ".".join((*path, path[-1]))

    def _add_slot(self, section: str, path: tuple[str, ...], entry: Any) -> None:
        name = ".".join(path)
        options = entry_parts(entry)[1]
        self.sections[section][name] = (options.get("slotType", "*"), options)
        if name in self.values:
            self.add(options.get("inputs", {}), path)
            self.paths[name] = ".".join((*path, path[-1]))


def group_names(template: Mapping[str, Any]) -> list[str]:
    """The members that an autogrow group may have, in order."""
    if "names" in template:
        return list(template["names"])
    return [f"{template.get('prefix', '')}{index}" for index in range(template.get("max", 0))]


def chosen_option(entry: Any, key: Any) -> Sections | None:
    """The inputs of the option `key` of a dynamic combo; None when there is no such option."""
    for option in entry_parts(entry)[1].get("options", ()):
        if option["key"] == key:
            inputs: Sections = option["inputs"]
            return inputs
    return None


def option_keys(entry: Any) -> list[Any]:
    """The values that a dynamic combo takes."""
    return [option["key"] for option in entry_parts(entry)[1].get("options", ())]


def _template_entry(template: Mapping[str, Any]) -> tuple[Any, bool]:
    for section, entries in template.get("input", {}).items():
        for entry in entries.values():
            return entry, section == "required"
    return ("*", {}), False
