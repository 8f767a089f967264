"""What a V3 node says about itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ._dynamic import DynamicInput, MatchType, declare
from ._kinds import Input, Output


class Hidden(StrEnum):
    """Values that a node can ask for and that no socket brings."""

    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"
    dynprompt = "DYNPROMPT"
    auth_token_comfy_org = "AUTH_TOKEN_COMFY_ORG"
    api_key_comfy_org = "API_KEY_COMFY_ORG"
    comfy_usage_source = "COMFY_USAGE_SOURCE"


_ACCOUNT = (Hidden.auth_token_comfy_org, Hidden.api_key_comfy_org, Hidden.comfy_usage_source)
_FOR_FILES = (Hidden.prompt, Hidden.extra_pnginfo)


class HiddenHolder:
    """Hidden values by name; unknown ones are None."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    def __getattr__(self, key: str) -> None:
        return None

    @classmethod
    def from_dict(cls, d: dict[Any, Any] | None) -> HiddenHolder:
        """From markers to values."""
        given = d or {}
        return cls(**{mark.name: given.get(mark) for mark in Hidden})


@dataclass
class NodeInfoV1:
    """One entry of object_info."""

    input: dict[str, Any] | None = None
    input_order: dict[str, list[str]] | None = None
    is_input_list: bool | None = None
    output: list[str] | None = None
    output_is_list: list[bool] | None = None
    output_name: list[str] | None = None
    output_tooltips: list[str | None] | None = None
    output_matchtypes: list[str | None] | None = None
    name: str | None = None
    display_name: str | None = None
    description: str | None = None
    python_module: Any = None
    category: str | None = None
    output_node: bool | None = None
    deprecated: bool | None = None
    experimental: bool | None = None
    dev_only: bool | None = None
    api_node: bool | None = None
    price_badge: dict[str, Any] | None = None
    search_aliases: list[str] | None = None
    essentials_category: str | None = None
    has_intermediate_output: bool | None = None


@dataclass
class PriceBadgeDepends:
    """What a price depends on."""

    widgets: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    input_groups: list[str] = field(default_factory=list)

    def as_dict(self, schema_inputs: list[Input]) -> dict[str, Any]:
        """As object_info has it, with the type of each widget."""
        types = {entry.id: entry.get_io_type() for entry in schema_inputs}
        for entry in schema_inputs:
            types.update({f"{entry.id}.{part.id}": part.get_io_type() for part in entry.get_all()[1:]})
        unknown = [name for name in self.widgets if name not in types]
        if unknown:
            raise ValueError(f"price badge depends on {unknown}, the inputs are {sorted(types)}")
        widgets = [{"name": name, "type": types[name]} for name in self.widgets]
        return {"widgets": widgets, "inputs": self.inputs, "input_groups": self.input_groups}


@dataclass
class PriceBadge:
    """A price that an editor works out."""

    expr: str
    depends_on: PriceBadgeDepends = field(default_factory=PriceBadgeDepends)
    engine: str = "jsonata"

    def validate(self) -> None:
        """Raise when it cannot be worked out."""
        if self.engine != "jsonata" or not isinstance(self.expr, str) or not self.expr.strip():
            raise ValueError("a price badge needs an expression, in jsonata")

    def as_dict(self, schema_inputs: list[Input]) -> dict[str, Any]:
        """As object_info has it."""
        return {"engine": self.engine, "depends_on": self.depends_on.as_dict(schema_inputs), "expr": self.expr}


@dataclass
class Schema:
    """Name, sockets and properties of a node."""

    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    description: str = ""
    search_aliases: list[str] = field(default_factory=list)
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_dev_only: bool = False
    is_api_node: bool = False
    price_badge: PriceBadge | None = None
    not_idempotent: bool = False
    enable_expand: bool = False
    accept_all_inputs: bool = False
    essentials_category: str | None = None
    has_intermediate_output: bool = False

    def validate(self) -> None:
        """Raise when ids repeat or an input is wrong."""
        fixed = [part.id for entry in self.inputs if not isinstance(entry, DynamicInput) for part in entry.get_all()]
        for what, ids in (("input", fixed), ("output", [entry.id for entry in self.outputs])):
            repeated = [name for name, count in Counter(ids).items() if count > 1]
            if repeated:
                raise ValueError(f"{what} ids of {self.node_id} must be unique: {repeated}")
        for entry in (*self.inputs, *self.outputs):
            entry.validate()
        if self.price_badge is not None:
            self.price_badge.validate()

    def finalize(self) -> None:
        """Ask for the hidden values that follow from the properties, and give every output an id."""
        self.inputs = self.inputs or []
        self.outputs = self.outputs or []
        self.hidden = self.hidden or []
        wanted = (*(_ACCOUNT if self.is_api_node else ()), *(_FOR_FILES if self.is_output_node else ()))
        self.hidden.extend(mark for mark in wanted if mark not in self.hidden)
        for index, output in enumerate(self.outputs):
            if output.id is None:
                output.id = f"_{index}_{output.io_type}_"

    def input_types(self) -> dict[str, dict[str, Any]]:
        """What `INPUT_TYPES` returns."""
        sections = declare(self.inputs)
        if self.hidden:
            sections["hidden"] = {mark.name: (mark.value,) for mark in self.hidden}
        return sections

    def get_v1_info(self, cls: type) -> NodeInfoV1:
        """One entry of object_info."""
        sections = self.input_types()
        matches = [o.template.template_id if isinstance(o, MatchType.Output) else None for o in self.outputs]
        return NodeInfoV1(
            input=sections,
            input_order={section: list(entries) for section, entries in sections.items()},
            is_input_list=self.is_input_list,
            output=[output.io_type for output in self.outputs],
            output_is_list=[output.is_output_list for output in self.outputs],
            output_name=[output.display_name or output.io_type for output in self.outputs],
            output_tooltips=[output.tooltip or None for output in self.outputs],
            output_matchtypes=matches if any(matches) else None,
            name=self.node_id,
            display_name=self.display_name,
            description=self.description,
            python_module=getattr(cls, "RELATIVE_PYTHON_MODULE", "nodes"),
            category=self.category,
            output_node=self.is_output_node,
            deprecated=self.is_deprecated,
            experimental=self.is_experimental,
            dev_only=self.is_dev_only,
            api_node=self.is_api_node,
            price_badge=self.price_badge.as_dict(self.inputs) if self.price_badge is not None else None,
            search_aliases=self.search_aliases or None,
            essentials_category=self.essentials_category,
            has_intermediate_output=self.has_intermediate_output,
        )
