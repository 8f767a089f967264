"""Yes and no, switches, lists."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

__all__ = ["NODES"]


class ComfyNotNode(io.ComfyNode):
    """Whether a value is empty, zero or no."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ComfyNotNode",
            display_name="Not",
            category="utilities/logic",
            inputs=[io.AnyType.Input("value")],
            outputs=[io.Boolean.Output()],
        )

    @classmethod
    def execute(cls, value: Any) -> io.NodeOutput:
        return io.NodeOutput(not value)


def _many(node_id: str, name: str) -> io.Schema:
    group = io.Autogrow.TemplatePrefix(input=io.AnyType.Input("value"), prefix="value", min=1)
    return io.Schema(
        node_id=node_id,
        display_name=name,
        category="utilities/logic",
        inputs=[io.Autogrow.Input("values", template=group)],
        outputs=[io.Boolean.Output()],
    )


class ComfyAndNode(io.ComfyNode):
    """Whether all values are something."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _many("ComfyAndNode", "And")

    @classmethod
    def execute(cls, values: dict[str, Any]) -> io.NodeOutput:
        return io.NodeOutput(all(values.values()))


class ComfyOrNode(io.ComfyNode):
    """Whether one of the values is something."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _many("ComfyOrNode", "Or")

    @classmethod
    def execute(cls, values: dict[str, Any]) -> io.NodeOutput:
        return io.NodeOutput(any(values.values()))


class ComfySwitchNode(io.ComfyNode):
    """One of two values; only what makes the chosen one is run."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        kind = io.MatchType.Template("switch")
        return io.Schema(
            node_id="ComfySwitchNode",
            display_name="If/Else Switch",
            category="utilities/logic",
            is_experimental=True,
            inputs=[
                io.Boolean.Input("switch"),
                io.MatchType.Input("on_false", template=kind, lazy=True),
                io.MatchType.Input("on_true", template=kind, lazy=True),
            ],
            outputs=[io.MatchType.Output(template=kind, display_name="output")],
        )

    @classmethod
    def check_lazy_status(cls, switch: bool, on_false: Any = None, on_true: Any = None) -> list[str]:
        if switch:
            return ["on_true"] if on_true is None else []
        return ["on_false"] if on_false is None else []

    @classmethod
    def execute(cls, switch: bool, on_true: Any = None, on_false: Any = None) -> io.NodeOutput:
        return io.NodeOutput(on_true if switch else on_false)


class CustomCombo(io.ComfyNode):
    """A choice whose options the editor keeps."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CustomCombo",
            display_name="Custom Combo",
            category="utilities",
            is_experimental=True,
            accept_all_inputs=True,
            inputs=[io.Combo.Input("choice", options=[])],
            outputs=[io.String.Output(display_name="STRING"), io.Int.Output(display_name="INDEX")],
        )

    @classmethod
    def validate_inputs(cls, choice: str, index: int = 0, **options: Any) -> bool:
        return True  # the options are the editor's, so any choice is one of them

    @classmethod
    def execute(cls, choice: str, index: int = 0, **options: Any) -> io.NodeOutput:
        return io.NodeOutput(choice, index)


class CreateList(io.ComfyNode):
    """The items of all inputs, one after the other, as a list that is worked through item by item."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        kind = io.MatchType.Template("type")
        group = io.Autogrow.TemplatePrefix(input=io.MatchType.Input("input", template=kind), prefix="input")
        return io.Schema(
            node_id="CreateList",
            display_name="Create List",
            category="utilities",
            is_input_list=True,
            inputs=[io.Autogrow.Input("inputs", template=group)],
            outputs=[io.MatchType.Output(template=kind, is_output_list=True, display_name="list")],
        )

    @classmethod
    def execute(cls, inputs: dict[str, list[Any]]) -> io.NodeOutput:
        return io.NodeOutput([item for items in inputs.values() for item in items])


NODES = [ComfyAndNode, ComfyNotNode, ComfyOrNode, ComfySwitchNode, CreateList, CustomCombo]
