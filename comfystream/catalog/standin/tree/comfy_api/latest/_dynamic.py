"""Inputs that take several types, that share a type, or whose number depends on what is connected."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, ClassVar

from ._kinds import HEAD, REQUIRED, TAIL, ComfyTypeI, ComfyTypeIO, Input, Output, WidgetInput, comfytype, wire
from ._types import TYPES

AnyType = TYPES["AnyType"]
_AFTER_ID = {name: default for name, default in HEAD.items() if name != "id"}
MAX_NAMES = 100


def declare(inputs: Iterable[Input]) -> dict[str, dict[str, Any]]:
    """Inputs as `INPUT_TYPES` returns them: section to id to (type, options)."""
    sections: dict[str, dict[str, Any]] = {"required": {}}
    for entry in inputs:
        add_to_dict_v1(entry, sections)
    return sections


def add_to_dict_v1(i: Input, d: dict[str, dict[str, Any]]) -> None:
    """Add one input to such a dict."""
    options = i.as_dict()
    options.pop("optional", None)
    d.setdefault("optional" if i.optional else "required", {})[i.id] = (i.get_io_type(), options)


def _inherit(target: Any, source: Input, names: Iterable[str]) -> None:
    for name in names:
        value = getattr(source, name, None)
        if value is not None and value is not False:
            setattr(target, name, value)


class _MultiTypeInput(Input):
    types: list[Any]
    input_override: Input | None
    SIGNATURE = {"id": REQUIRED, "types": REQUIRED, **_AFTER_ID, **TAIL}

    def settle(self) -> None:
        super().settle()
        self.input_override = None
        if not isinstance(self.id, Input):
            return
        # a widget given in place of the id: shown as that widget, connected as any of the types
        given: Input = self.id
        self.input_override = copy.copy(given)
        _inherit(self, given, ("optional", "tooltip", "display_name", "lazy"))
        self.id = given.id
        if isinstance(self.input_override, WidgetInput):
            self.input_override.widget_type = self.input_override.get_io_type()

    @property
    def io_types(self) -> list[Any]:
        """The permitted types as classes."""
        return [kind if isinstance(kind, type) else type(kind) for kind in self.types]

    def get_io_type(self) -> str:
        """All types, joined with commas."""
        own = [self.input_override.get_io_type()] if self.input_override is not None else []
        return ",".join(dict.fromkeys([*own, *(kind.io_type for kind in self.io_types)]))

    def as_dict(self) -> dict[str, Any]:
        """Options, those of the widget first."""
        widget = self.input_override.as_dict() if self.input_override is not None else {}
        return {**widget, **super().as_dict()}


@comfytype("COMFY_MULTITYPED_V3")
class MultiType(ComfyTypeI):
    """An input that takes values of several types."""

    Input: ClassVar[Any] = _MultiTypeInput


class _MatchTemplate:
    """Sockets with the same template take and give the same type."""

    def __init__(self, template_id: str, allowed_types: Any = AnyType) -> None:
        self.template_id = template_id
        self.allowed_types = list(allowed_types) if isinstance(allowed_types, list | tuple) else [allowed_types]
        for kind in self.allowed_types:
            if not hasattr(kind, "io_type"):
                raise ValueError(f"allowed_types of template {template_id!r} holds {kind!r}, which is no socket type")

    def as_dict(self) -> dict[str, Any]:
        """As object_info has it."""
        return {
            "template_id": self.template_id,
            "allowed_types": ",".join(kind.io_type for kind in self.allowed_types),
        }


class _MatchInput(Input):
    template: _MatchTemplate
    SIGNATURE = {"id": REQUIRED, "template": REQUIRED, **_AFTER_ID, **TAIL}

    def as_dict(self) -> dict[str, Any]:
        """Options with the template."""
        return {**super().as_dict(), "template": self.template.as_dict()}


class _MatchOutput(Output):
    template: _MatchTemplate
    SIGNATURE = {"template": REQUIRED, **Output.SIGNATURE}

    def settle(self) -> None:
        super().settle()
        self.display_name = self.display_name or "MATCHTYPE"

    def as_dict(self) -> dict[str, Any]:
        """Options with the template."""
        return {**super().as_dict(), "template": self.template.as_dict()}


@comfytype("COMFY_MATCHTYPE_V3")
class MatchType(ComfyTypeIO):
    """Sockets that agree on one type."""

    Template = _MatchTemplate
    Input: ClassVar[Any] = _MatchInput
    Output: ClassVar[Any] = _MatchOutput


class DynamicInput(Input):
    """An input that stands for others."""


class DynamicOutput(Output):
    """An output that stands for others."""


class _GrowTemplate:
    def __init__(self, input: Input, names: list[str], min: int) -> None:
        if isinstance(input, DynamicInput):
            raise TypeError(f"autogrow template {input.id!r} cannot be a dynamic input itself")
        if min < 0:
            raise ValueError(f"min of autogrow template {input.id!r} is {min}, must be 0 or more")
        self.input = copy.copy(input)
        if isinstance(self.input, WidgetInput):
            self.input.force_input = True
        self.names = names
        self.min = min

    def get_all(self) -> list[Input]:
        """One input per name."""
        return [self._named(name) for name in self.names]

    def _named(self, name: str) -> Input:
        one = copy.copy(self.input)
        one.id = name
        return one

    def as_dict(self) -> dict[str, Any]:
        """As object_info has it."""
        return {"input": declare([self.input])}

    def validate(self) -> None:
        """Check the input that grows."""
        self.input.validate()


class _GrowPrefix(_GrowTemplate):
    """Names made of a prefix and a number from 0."""

    def __init__(self, input: Input, prefix: str, min: int = 1, max: int = 10) -> None:
        if not 1 <= max <= MAX_NAMES:
            raise ValueError(f"max of autogrow template {input.id!r} is {max}, must be 1 to {MAX_NAMES}")
        super().__init__(input, [f"{prefix}{number}" for number in range(max)], min)
        self.prefix = prefix
        self.max = max

    def as_dict(self) -> dict[str, Any]:
        """As object_info has it."""
        return {**super().as_dict(), "prefix": self.prefix, "min": self.min, "max": self.max}


class _GrowNames(_GrowTemplate):
    """Given names."""

    def __init__(self, input: Input, names: list[str], min: int = 1) -> None:
        super().__init__(input, list(names)[:MAX_NAMES], min)

    def as_dict(self) -> dict[str, Any]:
        """As object_info has it."""
        return {**super().as_dict(), "names": self.names, "min": self.min}


class _GrowInput(DynamicInput):
    template: _GrowTemplate
    SIGNATURE = {"id": REQUIRED, "template": REQUIRED, **_AFTER_ID, "extra_dict": None}

    def as_dict(self) -> dict[str, Any]:
        """Options with the template."""
        return {**super().as_dict(), "template": self.template.as_dict()}

    def get_all(self) -> list[Input]:
        """Itself and one input per name."""
        return [self, *self.template.get_all()]

    def validate(self) -> None:
        """Check the template."""
        self.template.validate()


@comfytype("COMFY_AUTOGROW_V3")
class Autogrow(ComfyTypeI):
    """A group of like inputs that grows as they are connected."""

    Type = dict[str, Any]
    TemplatePrefix = _GrowPrefix
    TemplateNames = _GrowNames
    Input: ClassVar[Any] = _GrowInput


class _Option:
    """One choice of a dynamic combo and the inputs that come with it."""

    def __init__(self, key: str, inputs: list[Input]) -> None:
        self.key = key
        self.inputs = inputs

    def as_dict(self) -> dict[str, Any]:
        """As object_info has it."""
        return {"key": self.key, "inputs": declare(self.inputs)}


class _ChoiceInput(DynamicInput):
    options: list[_Option]
    SIGNATURE = {"id": REQUIRED, "options": REQUIRED, **_AFTER_ID, "extra_dict": None}

    def as_dict(self) -> dict[str, Any]:
        """Options with the choices."""
        return {**super().as_dict(), "options": [option.as_dict() for option in self.options]}

    def get_all(self) -> list[Input]:
        """Itself and the inputs of every choice."""
        return [self, *(entry for option in self.options for entry in option.inputs)]

    def validate(self) -> None:
        """Check the inputs of every choice."""
        for entry in self.get_all()[1:]:
            entry.validate()


@comfytype("COMFY_DYNAMICCOMBO_V3")
class DynamicCombo(ComfyTypeI):
    """A combo whose choice brings its own inputs."""

    Type = dict[str, Any]
    Option = _Option
    Input: ClassVar[Any] = _ChoiceInput


class _SlotInput(DynamicInput):
    slot: Input
    inputs: list[Input]
    force_input: bool | None
    SIGNATURE = {
        "slot": REQUIRED,
        "inputs": REQUIRED,
        **dict.fromkeys(("display_name", "tooltip", "lazy", "extra_dict")),
    }
    WIRE = {**Input.WIRE, "force_input": "forceInput"}

    def settle(self) -> None:
        if isinstance(self.slot, DynamicInput):
            raise TypeError(f"dynamic slot {self.slot.id!r} cannot be a dynamic input itself")
        self.slot = copy.copy(self.slot)
        for name in ("display_name", "tooltip", "lazy", "extra_dict"):
            own = getattr(self.slot, name)
            value = own if own is not None else getattr(self, name)
            setattr(self.slot, name, value)
            setattr(self, name, value)
        self.id = self.slot.id
        self.optional = True
        self.force_input = None
        if isinstance(self.slot, WidgetInput):
            self.force_input = self.slot.force_input = True
        super().settle()

    def as_dict(self) -> dict[str, Any]:
        """Options with the slot's type and what it brings."""
        more = {"slotType": self.slot.get_io_type(), "inputs": declare(self.inputs)}
        return {**super().as_dict(), **wire(more)}

    def get_all(self) -> list[Input]:
        """The slot and what it brings."""
        return [self.slot, *self.inputs]

    def validate(self) -> None:
        """Check all of them."""
        for entry in self.get_all():
            entry.validate()


@comfytype("COMFY_DYNAMICSLOT_V3")
class DynamicSlot(ComfyTypeI):
    """A socket that brings more inputs once it is connected."""

    Type = dict[str, Any]
    Input: ClassVar[Any] = _SlotInput
