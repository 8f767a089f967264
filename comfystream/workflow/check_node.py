"""The check of one node: its links, its constants, its class's own validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from comfystream.catalog.dynamic import (
    EffectiveInputs,
    effective_inputs,
    entry_parts,
    option_keys,
)
from comfystream.catalog.spec import Catalog, NodeSpec
from comfystream.workflow.coerce import Fault, coerced, combo_fault, range_fault
from comfystream.workflow.custom import Validator, custom_faults, validator_of
from comfystream.workflow.model import Link, Literal, Node, Workflow
from comfystream.workflow.problem import Problem, did_you_mean
from comfystream.workflow.types import matches

__all__ = ["NodeReport", "check_node"]


@dataclass(slots=True)
class NodeReport:
    """What the check of one node found.

    Attributes:
        inputs: the node's inputs with constants converted.
        problems: what is wrong with the node itself.
        failures: what ComfyUI meets as an exception: it words them by how the node was reached.
        follow: input name and id of the nodes that are checked because this one needs them.
        warnings: odd, but it runs.
    """

    inputs: dict[str, Any]
    problems: list[Problem] = field(default_factory=list)
    failures: list[Problem] = field(default_factory=list)
    follow: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


def check_node(node: Node, workflow: Workflow, catalog: Catalog) -> NodeReport:
    """Check one node whose class, and those of the nodes it links to, are in the catalog."""
    return _NodeCheck(node, workflow, catalog).run()


class _NodeCheck:
    def __init__(self, node: Node, workflow: Workflow, catalog: Catalog) -> None:
        spec = catalog.get(node.class_type)
        assert spec is not None, node.class_type
        self.node = node
        self.spec: NodeSpec = spec
        self.workflow = workflow
        self.catalog = catalog
        self.report = NodeReport(dict(node.inputs))
        self.received_types: dict[str, Any] = {}
        self.validator: Validator | None = validator_of(spec, node.id)
        self.effective: EffectiveInputs = effective_inputs(spec, node.inputs)

    def run(self) -> NodeReport:
        for name in self.effective:
            declared = self.effective.get(name)
            assert declared is not None, name
            self._check_input(name, *declared)
        self._check_undeclared()
        self._check_dynamic_combos()
        self._check_custom()
        return self.report

    def _check_input(self, name: str, input_type: Any, options: Mapping[str, Any], section: str) -> None:
        if name not in self.node.inputs:
            if section == "required":
                self._missing(name, input_type)
            return
        value = self.node.inputs[name]
        if isinstance(value, Link):
            self._check_link(name, [value.node, value.slot], input_type, options)
        elif isinstance(value, list):
            self._check_link(name, value, input_type, options)
        else:
            self._check_constant(name, value, input_type, options)

    def _missing(self, name: str, input_type: Any) -> None:
        is_nested = bool(self.effective.paths or self.effective.empty_groups)
        wanted = "a value" if isinstance(input_type, list) else input_type
        near = did_you_mean(name, (given for given in self.node.inputs if self.effective.get(given) is None))
        details = name.rsplit(".", 1)[-1] if is_nested else name
        hint = near or f"connect or set {name} ({wanted})"
        self._add("required_input_missing", "Required input is missing", details, name, hint)

    def _check_link(self, name: str, link: list[Any], input_type: Any, options: Mapping[str, Any]) -> None:
        config = {"input_config": (input_type, options)}
        if len(link) != 2:
            self._add(
                "bad_linked_input",
                "Bad linked input, must be a length-2 list of [node_id, slot_index]",
                name,
                name,
                f'a list is taken for a link; give a list value as {{"__value__": {link}}}'[:200],
                extra=config | {"received_value": link},
            )
            return
        received = self._output_type(name, link)
        if received is None:
            return
        self.received_types[name] = received[0]
        takes_types = self.validator is not None and self.validator.takes_types
        if not takes_types and not matches(received[0], input_type):
            self._mismatch(name, link, received[0], input_type, config)
            return
        self.report.follow.append((name, link[0]))

    def _mismatch(self, name: str, link: list[Any], received: Any, wanted: Any, config: Mapping[str, Any]) -> None:
        origin = self.workflow.nodes[link[0]]
        self._add(
            "return_type_mismatch",
            "Return type mismatch between linked nodes",
            f"{name}, received_type({received}) mismatch input_type({wanted})",
            name,
            f"{name} wants {wanted}; output {link[1]} of {origin.place} gives {received}",
            extra={**config, "received_type": received, "linked_node": link},
        )

    def _output_type(self, name: str, link: list[Any]) -> tuple[Any] | None:
        """The type of a linked output in a 1-tuple; None (and a failure) when there is no such output."""
        node_id, slot = link
        try:
            origin = self.workflow.nodes[node_id]
        except (KeyError, TypeError) as error:
            hint = f"{name} links to node {node_id}, which is not in the workflow"
            self._fail(error, name, hint)
            return None
        spec = self.catalog.get(origin.class_type)
        assert spec is not None, origin.class_type
        types = list(spec.output_types) if spec.api == "v3" else spec.output_types
        try:
            return (types[slot],)
        except (IndexError, TypeError) as error:
            count = len(spec.output_types)
            outputs = "no outputs" if not count else "1 output (slot 0)" if count == 1 else f"{count} outputs (from 0)"
            self._fail(error, name, f"{name} links to output {slot!r} of {origin.place}, which has {outputs}")
            return None

    def _check_constant(self, name: str, value: Any, input_type: Any, options: Mapping[str, Any]) -> None:
        is_wrapped = isinstance(value, Literal)
        plain, fault = coerced(name, value.value if is_wrapped else value, input_type, options)
        if fault is not None:
            self._add_fault(name, fault)
            return
        self.report.inputs[name] = Literal(plain) if isinstance(plain, list) else plain
        if self.validator is not None and self.validator.takes(name):
            return
        try:
            fault = range_fault(name, plain, input_type, options)
        except TypeError as error:
            self._fail(error, name, f"{name} wants a number")
            return
        fault = fault or combo_fault(name, plain, input_type, options)
        if fault is not None and not self._is_newly_listed(fault, name, plain):
            self._add_fault(name, fault)

    def _is_newly_listed(self, fault: Fault, name: str, value: Any) -> bool:
        """Whether the class lists the value by now: file lists grow after the catalog was read."""
        ask = getattr(self.spec.cls, "INPUT_TYPES", None)
        if fault.type != "value_not_in_list" or ask is None:
            return False
        for section in ask().values():
            if name in section:
                return combo_fault(name, value, *entry_parts(section[name])) is None
        return False

    def _check_undeclared(self) -> None:
        """ComfyUI drops undeclared constants and follows undeclared links while it runs."""
        for name, value in self.node.inputs.items():
            if self.effective.get(name) is not None or name in self.spec.hidden or name in self.effective.unchosen:
                continue
            if isinstance(value, Link):
                self._check_undeclared_link(name, value)
            known = [known for known in self.effective if known not in self.node.inputs]
            self.report.warnings.append(
                self._problem(
                    "unknown_input",
                    "Input is not known to this node",
                    name,
                    name,
                    did_you_mean(name, known, "it has no effect; the node may be of another version"),
                    is_error=False,
                )
            )

    def _check_undeclared_link(self, name: str, link: Link) -> None:
        if link.node in self.workflow.nodes:
            self.report.follow.append((name, link.node))
        else:
            self._fail(KeyError(link.node), name, f"{name} links to node {link.node}, which is not in the workflow")

    def _check_dynamic_combos(self) -> None:
        """ComfyUI leaves a dynamic combo without a valid choice to the node, which then fails."""
        for name, entry in self.effective.unchosen.items():
            keys = option_keys(entry)
            if name not in self.node.inputs:
                self._missing(name, "one of " + ", ".join(map(str, keys)))
                continue
            value = self.node.inputs[name]
            fault = combo_fault(name, "a link" if isinstance(value, Link) else value, keys, {})
            if fault is not None:
                self._add_fault(name, fault)

    def _check_custom(self) -> None:
        validator = self.validator
        if validator is None or not (validator.names or validator.takes_all):
            return
        node = Node(self.node.id, self.node.class_type, self.report.inputs, self.node.title)
        try:
            faults = custom_faults(validator, node, self.spec, self.effective, self.received_types)
        except Exception as error:  # noqa: BLE001 - the node's own code: whatever it raises is its answer
            self._fail(error, None, "the node's own validation raised")
            return
        for name, details in faults:
            self._add("custom_validation_failed", "Custom validation failed for node", details, name, "")

    def _add_fault(self, name: str, fault: Fault) -> None:
        self._add(fault.type, fault.message, fault.details, name, fault.hint, extra=fault.extra_info)

    def _add(
        self, kind: str, message: str, details: str, name: str, hint: str, extra: Mapping[str, Any] | None = None
    ) -> None:
        self.report.problems.append(self._problem(kind, message, details, name, hint, extra=extra))

    def _fail(self, error: Exception, name: str | None, hint: str) -> None:
        self.report.failures.append(
            Problem(
                "exception_during_validation",
                "Exception when validating node",
                details=str(error),
                hint=hint,
                node_id=self.node.id,
                class_type=self.node.class_type,
                input_name=name,
                extra_info={"exception_type": _full_name(type(error)), "traceback": []},
            )
        )

    def _problem(
        self,
        kind: str,
        message: str,
        details: str,
        name: str,
        hint: str,
        *,
        extra: Mapping[str, Any] | None = None,
        is_error: bool = True,
    ) -> Problem:
        return Problem(
            kind,
            message,
            details=details,
            hint=hint,
            node_id=self.node.id,
            class_type=self.node.class_type,
            input_name=name,
            is_error=is_error,
            extra_info={"input_name": name, **(extra or {})},
        )


def _full_name(cls: type) -> str:
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
