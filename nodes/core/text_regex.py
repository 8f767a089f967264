"""Text by regular expressions (Python's `re`)."""

from __future__ import annotations

import re
from typing import Any

from comfy_api.latest import io

from .text import multiline, text_schema

__all__ = ["NODES"]


def _flag_inputs(**more: Any) -> list[io.Boolean.Input]:
    defaults = {"case_insensitive": True, "multiline": False, "dotall": False}
    return [io.Boolean.Input(name, default=value, advanced=True, **more) for name, value in defaults.items()]


def _flags(case_insensitive: bool, multiline: bool, dotall: bool) -> re.RegexFlag:
    flags = re.NOFLAG
    for wanted, flag in ((case_insensitive, re.IGNORECASE), (multiline, re.MULTILINE), (dotall, re.DOTALL)):
        flags |= flag if wanted else re.NOFLAG
    return flags


def _pattern(text: str, flags: re.RegexFlag) -> re.Pattern[str] | None:
    """None when it is not a regular expression; `re` keeps the compiled ones."""
    try:
        return re.compile(text, flags)
    except re.error:
        return None


class RegexMatch(io.ComfyNode):
    """Whether a pattern occurs in a text; a pattern that is wrong does not."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [multiline("string"), multiline("regex_pattern"), *_flag_inputs()]
        return text_schema("RegexMatch", "Match Text", inputs, io.Boolean.Output(display_name="matches"))

    @classmethod
    def execute(
        cls, string: str, regex_pattern: str, case_insensitive: bool, multiline: bool, dotall: bool
    ) -> io.NodeOutput:
        pattern = _pattern(regex_pattern, _flags(case_insensitive, multiline, dotall))
        return io.NodeOutput(pattern is not None and pattern.search(string) is not None)


def _group(match: re.Match[str] | None, index: int) -> str | None:
    """A group of a match; None where there is no such group, or it took no part."""
    return match.group(index) if match and len(match.groups()) >= index else None


def _first_group(pattern: re.Pattern[str], text: str, index: int) -> str | None:
    match = pattern.search(text)
    return _group(match, index) if match and len(match.groups()) >= index else ""


def _all_groups(pattern: re.Pattern[str], text: str, index: int) -> str:
    matches = [match for match in pattern.finditer(text) if match.groups() and len(match.groups()) >= index]
    return "\n".join(match.group(index) for match in matches)


def _first_match(pattern: re.Pattern[str], text: str, index: int) -> str:
    match = pattern.search(text)
    return match.group(0) if match else ""


def _all_matches(pattern: re.Pattern[str], text: str, index: int) -> str:
    """The matches; with groups in the pattern, the first group of each."""
    number = 1 if pattern.groups else 0
    return "\n".join(match.group(number) or "" for match in pattern.finditer(text))


MODES = {
    "First Match": _first_match,
    "All Matches": _all_matches,
    "First Group": _first_group,
    "All Groups": _all_groups,
}


class RegexExtract(io.ComfyNode):
    """What a pattern finds in a text, one per line; empty for a pattern that is wrong."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        mode = io.Combo.Input("mode", options=list(MODES))
        index = io.Int.Input("group_index", default=1, min=0, max=100, advanced=True)
        inputs = [multiline("string"), multiline("regex_pattern"), mode, *_flag_inputs(), index]
        return text_schema("RegexExtract", "Extract Text", inputs)

    @classmethod
    def execute(
        cls,
        string: str,
        regex_pattern: str,
        mode: str,
        case_insensitive: bool,
        multiline: bool,
        dotall: bool,
        group_index: int,
    ) -> io.NodeOutput:
        pattern = _pattern(regex_pattern, _flags(case_insensitive, multiline, dotall))
        return io.NodeOutput("" if pattern is None else MODES[mode](pattern, string, group_index))


class RegexReplace(io.ComfyNode):
    """What a pattern finds replaced; count 0 = all of it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        count = io.Int.Input("count", default=0, min=0, max=100, optional=True, advanced=True)
        texts = [multiline("string"), multiline("regex_pattern"), multiline("replace")]
        return text_schema("RegexReplace", "Replace Text (Regex)", [*texts, *_flag_inputs(optional=True), count])

    @classmethod
    def execute(
        cls,
        string: str,
        regex_pattern: str,
        replace: str,
        case_insensitive: bool = True,
        multiline: bool = False,
        dotall: bool = False,
        count: int = 0,
    ) -> io.NodeOutput:
        flags = _flags(case_insensitive, multiline, dotall)
        return io.NodeOutput(re.sub(regex_pattern, replace, string, count=count, flags=flags))


NODES = [RegexExtract, RegexMatch, RegexReplace]
