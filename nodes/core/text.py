"""Text: join, cut, compare, replace, format, JSON."""

from __future__ import annotations

import json
import string as letters
from typing import Any

from comfy_api.latest import io

__all__ = ["NODES", "multiline", "text_schema"]


def multiline(name: str) -> io.String.Input:
    """A text of several lines."""
    return io.String.Input(name, multiline=True)


def text_schema(node_id: str, name: str, inputs: list[Any], output: Any = None) -> io.Schema:
    """Schema of a text node; the output is a text unless given."""
    outputs = [output or io.String.Output()]
    return io.Schema(node_id=node_id, display_name=name, category="text", inputs=inputs, outputs=outputs)


class StringConcatenate(io.ComfyNode):
    """Two texts with a delimiter between them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        delimiter = io.String.Input("delimiter", multiline=False, default="")
        return text_schema(
            "StringConcatenate", "Concatenate Text", [multiline("string_a"), multiline("string_b"), delimiter]
        )

    @classmethod
    def execute(cls, string_a: str, string_b: str, delimiter: str) -> io.NodeOutput:
        return io.NodeOutput(f"{string_a}{delimiter}{string_b}")


class StringFormat(io.ComfyNode):
    """Python's str.format with the values a, b, c, ..."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        group = io.Autogrow.TemplateNames(input=io.AnyType.Input("value"), names=list(letters.ascii_lowercase), min=0)
        pattern = io.String.Input("f_string", default="{a}", multiline=True)
        return text_schema("StringFormat", "Format Text", [io.Autogrow.Input("values", template=group), pattern])

    @classmethod
    def execute(cls, values: dict[str, Any], f_string: str) -> io.NodeOutput:
        return io.NodeOutput(f_string.format(**values))


class StringSubstring(io.ComfyNode):
    """The characters from start to before end; negative counts from the end."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [multiline("string"), io.Int.Input("start"), io.Int.Input("end")]
        return text_schema("StringSubstring", "Substring", inputs)

    @classmethod
    def execute(cls, string: str, start: int, end: int) -> io.NodeOutput:
        return io.NodeOutput(string[start:end])


class StringLength(io.ComfyNode):
    """Number of characters."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return text_schema("StringLength", "Text Length", [multiline("string")], io.Int.Output(display_name="length"))

    @classmethod
    def execute(cls, string: str) -> io.NodeOutput:
        return io.NodeOutput(len(string))


CASES = {"UPPERCASE": str.upper, "lowercase": str.lower, "Capitalize": str.capitalize, "Title Case": str.title}


class CaseConverter(io.ComfyNode):
    """Upper case, lower case and so on."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [multiline("string"), io.Combo.Input("mode", options=list(CASES))]
        return text_schema("CaseConverter", "Convert Text Case", inputs)

    @classmethod
    def execute(cls, string: str, mode: str) -> io.NodeOutput:
        return io.NodeOutput(CASES[mode](string))


TRIMS = {"Both": str.strip, "Left": str.lstrip, "Right": str.rstrip}


class StringTrim(io.ComfyNode):
    """Without blanks at the ends."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return text_schema(
            "StringTrim", "Trim Text", [multiline("string"), io.Combo.Input("mode", options=list(TRIMS))]
        )

    @classmethod
    def execute(cls, string: str, mode: str) -> io.NodeOutput:
        return io.NodeOutput(TRIMS[mode](string))


class StringReplace(io.ComfyNode):
    """Each occurrence of a text replaced."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return text_schema(
            "StringReplace", "Replace Text", [multiline("string"), multiline("find"), multiline("replace")]
        )

    @classmethod
    def execute(cls, string: str, find: str, replace: str) -> io.NodeOutput:
        return io.NodeOutput(string.replace(find, replace))


def _case_sensitive() -> io.Boolean.Input:
    return io.Boolean.Input("case_sensitive", default=True, advanced=True)


class StringContains(io.ComfyNode):
    """Whether one text is in the other."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [multiline("string"), multiline("substring"), _case_sensitive()]
        return text_schema("StringContains", "Contains Text", inputs, io.Boolean.Output(display_name="contains"))

    @classmethod
    def execute(cls, string: str, substring: str, case_sensitive: bool) -> io.NodeOutput:
        return io.NodeOutput(substring in string if case_sensitive else substring.lower() in string.lower())


COMPARISONS = {"Starts With": str.startswith, "Ends With": str.endswith, "Equal": str.__eq__}


class StringCompare(io.ComfyNode):
    """Whether a text starts with, ends with or is another."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        mode = io.Combo.Input("mode", options=list(COMPARISONS))
        inputs = [multiline("string_a"), multiline("string_b"), mode, _case_sensitive()]
        return text_schema("StringCompare", "Compare Text", inputs, io.Boolean.Output())

    @classmethod
    def execute(cls, string_a: str, string_b: str, mode: str, case_sensitive: bool) -> io.NodeOutput:
        pair = (string_a, string_b) if case_sensitive else (string_a.lower(), string_b.lower())
        return io.NodeOutput(COMPARISONS[mode](*pair))


class JsonExtractString(io.ComfyNode):
    """A value of a JSON object as text; empty where there is none."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [multiline("json_string"), io.String.Input("key", multiline=False)]
        return text_schema("JsonExtractString", "Extract Text from JSON", inputs)

    @classmethod
    def execute(cls, json_string: str, key: str) -> io.NodeOutput:
        try:
            data = json.loads(json_string)
        except ValueError:
            return io.NodeOutput("")
        value = data.get(key) if isinstance(data, dict) else None
        return io.NodeOutput("" if value is None else str(value))


def _dump_schema(node_id: str, name: str, field: Any) -> io.Schema:
    return text_schema(node_id, name, [field, io.Int.Input("indent", default=2, min=0, max=8)])


def _dump(value: Any, indent: int) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent or None)


class ConvertDictionaryToString(io.ComfyNode):
    """A dictionary as JSON."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _dump_schema("ConvertDictionaryToString", "Convert Dictionary to String", io.Dict.Input("dictionary"))

    @classmethod
    def execute(cls, dictionary: dict[str, Any], indent: int = 2) -> io.NodeOutput:
        return io.NodeOutput(_dump(dictionary, indent))


class ConvertArrayToString(io.ComfyNode):
    """A list as JSON."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _dump_schema("ConvertArrayToString", "Convert Array to String", io.Array.Input("array"))

    @classmethod
    def execute(cls, array: list[Any], indent: int = 2) -> io.NodeOutput:
        return io.NodeOutput(_dump(array, indent))


NODES = [
    CaseConverter,
    ConvertArrayToString,
    ConvertDictionaryToString,
    JsonExtractString,
    StringCompare,
    StringConcatenate,
    StringContains,
    StringFormat,
    StringLength,
    StringReplace,
    StringSubstring,
    StringTrim,
]
