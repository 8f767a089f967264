"""Values typed in by hand, and what makes numbers of them."""

from __future__ import annotations

import math
import re
import sys
from typing import Any

from comfy_api.latest import io

__all__ = ["NODES"]

LIMIT = sys.maxsize


def _schema(node_id: str, name: str, field: Any, output: Any, **more: Any) -> io.Schema:
    category = more.pop("category", "utilities/primitive")
    return io.Schema(node_id=node_id, display_name=name, category=category, inputs=[field], outputs=[output], **more)


class PrimitiveString(io.ComfyNode):
    """A line of text."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _schema("PrimitiveString", "Text", io.String.Input("value"), io.String.Output())

    @classmethod
    def execute(cls, value: str) -> io.NodeOutput:
        return io.NodeOutput(value)


class PrimitiveStringMultiline(io.ComfyNode):
    """Some lines of text."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        field = io.String.Input("value", multiline=True)
        return _schema(
            "PrimitiveStringMultiline", "Text (Multiline)", field, io.String.Output(), essentials_category="Basics"
        )

    @classmethod
    def execute(cls, value: str) -> io.NodeOutput:
        return io.NodeOutput(value)


class PrimitiveInt(io.ComfyNode):
    """A whole number."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        fixed = io.ControlAfterGenerate.fixed
        field = io.Int.Input("value", min=-LIMIT, max=LIMIT, control_after_generate=fixed)
        return _schema("PrimitiveInt", "Int", field, io.Int.Output())

    @classmethod
    def execute(cls, value: int) -> io.NodeOutput:
        return io.NodeOutput(value)


class PrimitiveFloat(io.ComfyNode):
    """A number."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        field = io.Float.Input("value", min=-LIMIT, max=LIMIT, step=0.1)
        return _schema("PrimitiveFloat", "Float", field, io.Float.Output())

    @classmethod
    def execute(cls, value: float) -> io.NodeOutput:
        return io.NodeOutput(value)


class PrimitiveBoolean(io.ComfyNode):
    """Yes or no."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _schema("PrimitiveBoolean", "Boolean", io.Boolean.Input("value"), io.Boolean.Output())

    @classmethod
    def execute(cls, value: bool) -> io.NodeOutput:
        return io.NodeOutput(value)


class SeedNode(io.ComfyNode):
    """A seed for what is random."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        field = io.Int.Input("seed", min=0, max=LIMIT, control_after_generate=io.ControlAfterGenerate.fixed)
        return _schema("SeedNode", "Seed", field, io.Int.Output(display_name="seed"), category="utilities")

    @classmethod
    def execute(cls, seed: int) -> io.NodeOutput:
        return io.NodeOutput(seed)


HEX_COLOR = re.compile(r"#([0-9a-fA-F]{6})([0-9a-fA-F]{2})?")


class ColorToRGBInt(io.ComfyNode):
    """A colour as a number 0xRRGGBB, as "#rrggbb", and its opacity 0..1."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ColorToRGBInt",
            display_name="Color Picker",
            category="utilities",
            inputs=[io.Color.Input("color")],
            outputs=[
                io.Int.Output(display_name="rgb_int"),
                io.Color.Output(display_name="hex"),
                io.Float.Output(display_name="alpha"),
            ],
        )

    @classmethod
    def execute(cls, color: str) -> io.NodeOutput:
        match = HEX_COLOR.fullmatch(color)
        if match is None:
            raise ValueError(f'"{color}" is no colour; write it as #RRGGBB or #RRGGBBAA')
        alpha = int(match[2], 16) / 255.0 if match[2] else 1.0
        return io.NodeOutput(int(match[1], 16), f"#{match[1]}", alpha)


def _numbers(text: str) -> tuple[float, int]:
    """The number that a text spells, as a float and as a whole number (cut off)."""
    number = float(text)
    try:
        return number, int(text)  # exact where a float is not
    except ValueError:
        return number, int(number)


class ComfyNumberConvert(io.ComfyNode):
    """Numbers, texts and yes/no as a float and as a whole number."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        kinds = [io.Int, io.Float, io.String, io.Boolean]
        return io.Schema(
            node_id="ComfyNumberConvert",
            display_name="Convert Number",
            category="utilities",
            inputs=[io.MultiType.Input("value", kinds, display_name="value")],
            outputs=[io.Float.Output(display_name="FLOAT"), io.Int.Output(display_name="INT")],
        )

    @classmethod
    def execute(cls, value: object) -> io.NodeOutput:
        if not isinstance(value, str | int | float):
            raise TypeError(f"{type(value).__name__} cannot be made a number; give a number, a text or yes/no")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{value} is not a finite number")
        if not isinstance(value, str):
            return io.NodeOutput(float(value), int(value))
        try:
            return io.NodeOutput(*_numbers(value.strip()))
        except (ValueError, OverflowError):
            raise ValueError(f'"{value}" is not a finite number') from None


NODES = [
    ColorToRGBInt,
    ComfyNumberConvert,
    PrimitiveBoolean,
    PrimitiveFloat,
    PrimitiveInt,
    PrimitiveString,
    PrimitiveStringMultiline,
    SeedNode,
]
