"""Options of commands in groups: a dataclass of options in the place of an argument for each.

Typer reads a command's options off its signature; with thirty options that is a function of thirty arguments, each of
which is then named again where it is handed on. Here an argument may be a dataclass: its fields are the options, its
`PANEL` is the heading that the help puts them under. Groups that several commands share are declared once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

__all__ = ["grouped", "settings_of"]


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer takes it: every group of its arguments is spread out, and put together when it is called.

    Two groups must not have a field of the same name; every field has a default.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type[Any]] = {
        name: kind for name, kind in hints.items() if isinstance(kind, type) and is_dataclass(kind)
    }
    spread: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        named = parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)
        spread += _options(groups[parameter.name]) if parameter.name in groups else [named]

    @wraps(command)
    def call(**given: Any) -> None:
        made = {
            name: kind(**{field.name: given.pop(field.name) for field in fields(kind)}) for name, kind in groups.items()
        }
        command(**given, **made)

    signature = inspect.Signature(spread)
    call.__signature__ = signature  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in spread}
    del call.__wrapped__
    return call


def settings_of(*groups: Any) -> dict[str, Any]:
    """What was given, as settings: fields are called as the settings are, and None, False and nothing are left out."""
    given = {field.name: getattr(group, field.name) for group in groups for field in fields(group)}
    return {name: _plain(value) for name, value in given.items() if not _is_left_out(value)}


def _is_left_out(value: Any) -> bool:
    return value is None or value is False or value in ("", [])


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value


def _options(group: type[Any]) -> list[inspect.Parameter]:
    hints: Mapping[str, Any] = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=_under(group.PANEL, hints[field.name]),
        )
        for field in fields(group)
    ]


def _under(panel: str, hint: Any) -> Any:
    """The annotated type, its option under a heading of the help."""
    kind, option = get_args(hint)
    option = copy(option)
    option.rich_help_panel = panel
    return Annotated[kind, option]
