"""A V3 class seen as a `NodeSpec`, and called."""

from __future__ import annotations

import asyncio
from abc import ABC

import pytest

from comfystream.catalog import standin
from comfystream.catalog.v3 import bind_v3, is_overridden, is_v3, spec_from_v3

standin.install()

from comfy_api.latest import io  # noqa: E402
from comfy_execution.graph_utils import ExecutionBlocker  # noqa: E402


class Adder(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Adder",
            display_name="Add",
            category="test",
            inputs=[io.Int.Input("a", default=1), io.Int.Input("b", optional=True, lazy=True)],
            outputs=[io.Int.Output("sum"), io.Int.Output(is_output_list=True)],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
            not_idempotent=True,
        )

    @classmethod
    def execute(cls, a, b=0):
        return io.NodeOutput(a + b, [cls.hidden.unique_id, cls.hidden.prompt, cls.hidden.dynprompt])


class Derived(Adder):
    @classmethod
    def define_schema(cls):
        schema = super().define_schema()
        schema.node_id = "Derived"
        schema.outputs = [io.Image.Output()]
        schema.enable_expand = True
        return schema

    @classmethod
    async def execute(cls, a, b=0):
        return super().execute(a, b)

    @classmethod
    def validate_inputs(cls, a, **rest):
        return "too small" if a < 0 else True

    @classmethod
    def fingerprint_inputs(cls, a):
        return f"{a} of {cls.hidden.unique_id}"

    @classmethod
    def check_lazy_status(cls, a, b=None):
        return ["b"]


def test_the_schema_is_read() -> None:
    spec = spec_from_v3(Adder, python_module="custom_nodes.x", pack="x")
    assert (spec.key, spec.display_name, spec.category, spec.api) == ("Adder", "Add", "test", "v3")
    assert spec.input("a") == ("INT", {"default": 1}, "required")
    assert spec.input("b") == ("INT", {"lazy": True}, "optional")
    assert spec.output_types == ("INT", "INT")
    assert spec.output_names == ("sum", "INT")
    assert spec.output_is_list == (False, True)
    assert (spec.is_output, spec.not_idempotent, spec.is_async, spec.enable_expand) == (True, True, False, False)
    assert spec.hidden == {"unique_id": "UNIQUE_ID", "prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}


def test_optional_methods_count_only_when_overridden() -> None:
    base = spec_from_v3(Adder)
    assert (base.has_fingerprint, base.has_validation, base.has_lazy_status) == (False, False, False)
    derived = spec_from_v3(Derived)
    assert (derived.has_fingerprint, derived.has_validation, derived.has_lazy_status) == (True, True, True)
    assert derived.validates == {"a", "**"}
    inherits = type("Inherits", (Derived,), {})
    assert is_overridden(inherits, "fingerprint_inputs")


def test_a_derived_class_does_not_answer_with_its_parents_schema() -> None:
    assert spec_from_v3(Adder).output_types == ("INT", "INT")
    assert spec_from_v3(Derived).output_types == ("IMAGE",)
    assert Derived.RETURN_TYPES == ["IMAGE"]


def test_what_is_a_v3_class() -> None:
    assert is_v3(Adder)
    assert not is_v3(dict)


def test_hidden_values_are_those_asked_for() -> None:
    call = bind_v3(spec_from_v3(Adder), {"UNIQUE_ID": "7:3", "PROMPT": {"x": 1}, "DYNPROMPT": "not asked for"})
    assert call(a=1, b=2).result == (3, ["7:3", {"x": 1}, None])
    assert call.__self__.hidden.never_heard_of is None


def test_two_bindings_do_not_share_hidden_values() -> None:
    spec = spec_from_v3(Adder)
    first, second = bind_v3(spec, {"UNIQUE_ID": "1"}), bind_v3(spec, {"UNIQUE_ID": "2"})
    assert [call(a=0).result[1][0] for call in (first, second, first)] == ["1", "2", "1"]
    assert Adder.hidden is None


def test_a_bound_class_keeps_no_state() -> None:
    class Stateful(Adder):
        @classmethod
        def execute(cls, a):
            cls.count = a

    call = bind_v3(spec_from_v3(Stateful), {})
    with pytest.raises(AttributeError, match="cannot set 'count'.*Stateful"):
        call(a=1)
    with pytest.raises(AttributeError, match="cannot delete 'hidden'"):
        del call.__self__.hidden
    assert not hasattr(Stateful, "count")


def test_a_node_class_may_be_abstract_by_descent() -> None:
    class Abstract(Adder, ABC):
        pass

    assert bind_v3(spec_from_v3(Abstract), {"UNIQUE_ID": "1"})(a=1).result[0] == 1


def test_async_and_super_work_through_the_binding() -> None:
    spec = spec_from_v3(Derived)
    assert spec.is_async is True
    assert asyncio.run(bind_v3(spec, {"UNIQUE_ID": "9"})(a=4, b=5)).result == (9, ["9", None, None])


def test_the_other_methods_are_bound_too() -> None:
    spec = spec_from_v3(Derived)
    hidden = {"UNIQUE_ID": "9"}
    assert bind_v3(spec, hidden, "validate_inputs")(a=-1) == "too small"
    assert bind_v3(spec, hidden, "fingerprint_inputs")(a=3) == "3 of 9"
    assert bind_v3(spec, hidden, "check_lazy_status")(a=3) == ["b"]


@pytest.mark.parametrize(
    ("returned", "result", "blocked"),
    [
        (None, None, None),
        ((1, 2), (1, 2), None),
        ({"result": (3,), "ui": {"text": ("x",)}}, (3,), None),
        ({"ui": {"text": ("x",)}}, None, None),
        (io.NodeOutput(4, ui={"a": 1}), (4,), None),
        (ExecutionBlocker("stop"), None, "stop"),
        ({"result": ExecutionBlocker("halt")}, None, "halt"),
    ],
)
def test_every_return_form_has_one_meaning(returned, result, blocked) -> None:
    output = io.NodeOutput.of(returned)
    assert (output.result, output.block_execution) == (result, blocked)


def test_other_return_values_and_undeclared_expansions_are_refused() -> None:
    with pytest.raises(TypeError, match="returned list"):
        io.NodeOutput.of([1])
    expanding = type("Expanding", (Adder,), {"execute": classmethod(lambda cls, a: {"expand": {}})})
    with pytest.raises(ValueError, match="enable_expand"):
        expanding.EXECUTE_NORMALIZED(a=1)


class NoSchema(io.ComfyNode):
    @classmethod
    def execute(cls):
        return None


class NoExecute(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="NoExecute")


class Twice(NoSchema):
    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="Twice", inputs=[io.Int.Input("a"), io.Int.Input("a")])


@pytest.mark.parametrize(
    ("cls", "error", "text"),
    [
        (NoSchema, TypeError, "no define_schema"),
        (NoExecute, TypeError, "no execute"),
        (Twice, ValueError, "input ids of Twice must be unique: ..a"),
    ],
)
def test_a_wrong_class_is_refused(cls: type, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        spec_from_v3(cls)
