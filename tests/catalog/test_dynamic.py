"""Inputs whose names depend on what is given."""

from __future__ import annotations

from comfystream.catalog import NodeSpec, standin
from comfystream.catalog.dynamic import effective_inputs, nest_inputs
from comfystream.catalog.v3 import spec_from_v3

standin.install()

from comfy_api.latest import io  # noqa: E402


def _spec(*inputs: object) -> NodeSpec:
    class Node(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return io.Schema(node_id="Node", inputs=list(inputs), hidden=[io.Hidden.unique_id])

        @classmethod
        def execute(cls, **kwargs):
            return None

    return spec_from_v3(Node)


def _grow(minimum: int = 2) -> object:
    template = io.Autogrow.TemplatePrefix(io.Image.Input("image"), "image", min=minimum, max=4)
    return io.Autogrow.Input("images", template=template)


def _mode() -> object:
    blend = io.DynamicCombo.Input("curve", [io.DynamicCombo.Option("s", [io.Float.Input("steep", min=0.0)])])
    options = [
        io.DynamicCombo.Option("fast", [io.Float.Input("strength"), io.Int.Input("steps", optional=True)]),
        io.DynamicCombo.Option("blend", [blend]),
    ]
    return io.DynamicCombo.Input("mode", options)


def test_plain_inputs_stay_as_they_are() -> None:
    spec = _spec(io.Int.Input("a"), io.Image.Input("b", optional=True))
    assert spec.has_dynamic_inputs is False
    effective = effective_inputs(spec, {"a": 1})
    assert (effective.required, effective.optional) == ({"a": ("INT", {})}, {"b": ("IMAGE", {})})
    assert nest_inputs(effective, {"a": 1, "undeclared": 2}) == {"a": 1, "undeclared": 2}


def test_an_autogrow_group() -> None:
    spec = _spec(io.Int.Input("a"), _grow())
    assert spec.has_dynamic_inputs is True
    given = {"a": 5, "images.image0": "A", "images.image2": "C"}
    effective = effective_inputs(spec, given)
    assert list(effective.required) == ["a", "images.image0", "images.image1"]
    assert list(effective.optional) == ["images.image2", "images.image3"]
    assert effective.get("images.image3") == ("IMAGE", {}, "optional")
    assert effective.get("images") is None
    assert nest_inputs(effective, given) == {"a": 5, "images": {"image0": "A", "image2": "C"}}


def test_an_autogrow_group_without_a_value_is_an_empty_dict() -> None:
    effective = effective_inputs(_spec(_grow(minimum=0)), {})
    assert list(effective.optional)[0] == "images.image0"
    assert nest_inputs(effective, {}) == {"images": {}}


def test_an_autogrow_group_with_given_names() -> None:
    template = io.Autogrow.TemplateNames(io.Float.Input("x", optional=True), ["left", "right"], min=1)
    effective = effective_inputs(_spec(io.Autogrow.Input("sides", template=template)), {"sides.right": 1.0})
    assert list(effective.optional) == ["sides.left", "sides.right"]
    assert effective.get("sides.left")[1] == {"forceInput": True}
    assert nest_inputs(effective, {"sides.right": 1.0}) == {"sides": {"right": 1.0}}


def test_a_dynamic_combo_brings_the_inputs_of_its_choice() -> None:
    given = {"mode": "fast", "mode.strength": 0.5}
    effective = effective_inputs(_spec(_mode()), given)
    assert list(effective.required) == ["mode.strength", "mode"]
    assert list(effective.optional) == ["mode.steps"]
    assert nest_inputs(effective, given)["mode"] == {"mode": "fast", "strength": 0.5, "steps": None}


def test_a_dynamic_combo_in_another() -> None:
    given = {"mode": "blend", "mode.curve": "s", "mode.curve.steep": 2.0}
    effective = effective_inputs(_spec(_mode()), given)
    assert effective.get("mode.curve.steep") == ("FLOAT", {"min": 0.0}, "required")
    assert nest_inputs(effective, given) == {"mode": {"mode": "blend", "curve": {"curve": "s", "steep": 2.0}}}


def test_an_unknown_choice_declares_nothing() -> None:
    effective = effective_inputs(_spec(_mode()), {"mode": "no such"})
    assert (effective.required, effective.optional) == ({}, {})


def test_a_dynamic_slot_brings_inputs_once_it_is_given() -> None:
    spec = _spec(io.DynamicSlot.Input(io.Image.Input("image"), [io.Float.Input("amount")]))
    before = effective_inputs(spec, {})
    assert before.get("image.amount") is None
    assert before.get("image")[0] == "IMAGE"  # the slot itself can be linked
    given = {"image": "A", "image.amount": 0.1}
    effective = effective_inputs(spec, given)
    assert effective.get("image.amount") == ("FLOAT", {}, "required")
    assert nest_inputs(effective, given) == {"image": {"image": "A", "amount": 0.1}}


def test_for_lazy_checks_each_dynamic_leaf_is_a_pair() -> None:
    given = {"a": 1, "images.image0": None}
    effective = effective_inputs(_spec(io.Int.Input("a"), _grow()), given)
    assert nest_inputs(effective, given, as_pairs=True) == {"a": 1, "images": {"image0": (None, "images.image0")}}


def test_nesting_leaves_the_given_values_alone() -> None:
    given = {"images.image0": "A"}
    nest_inputs(effective_inputs(_spec(_grow()), given), given)
    assert given == {"images.image0": "A"}
