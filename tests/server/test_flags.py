"""Options in groups: what Typer sees, and what the command gets."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer
from typer.testing import CliRunner

from comfystream_server.flags import grouped, settings_of


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Place:
    PANEL: ClassVar = "Where it is"

    port: Annotated[int | None, typer.Option(metavar="PORT", help="Its port.")] = None
    folders: Annotated[list[Path] | None, typer.Option("--in", help="Its folders.")] = None


@dataclass(frozen=True, slots=True)
class Look(Place):
    PANEL: ClassVar = "How it looks"

    port: Annotated[int | None, typer.Option("--depth", help="Declared anew.")] = 1
    colour: Annotated[Colour | None, typer.Option(help="Its colour.")] = None
    bright: Annotated[bool, typer.Option("--bright", help="Brighter.")] = False


def _run(*arguments: str) -> tuple[Any, list[tuple[Any, ...]]]:
    got: list[tuple[Any, ...]] = []
    app = typer.Typer(add_completion=False)

    @app.command()
    @grouped
    def command(name: Annotated[str, typer.Argument()], loud: bool = False, *, look: Look) -> None:
        """Do it."""
        got.append((name, loud, look))

    return CliRunner().invoke(app, arguments, env={"COLUMNS": "100"}), got


def test_options_come_together_in_their_groups() -> None:
    result, got = _run("it", "--loud", "--in", "a", "--in", "b", "--colour", "red", "--bright")
    assert result.exit_code == 0, result.output
    assert got == [("it", True, Look(1, [Path("a"), Path("b")], Colour.RED, True))]
    _, got = _run("it")
    assert got == [("it", False, Look())]


def test_the_help_has_a_heading_for_each_group() -> None:
    output = _run("--help")[0].output
    assert output.index("How it looks") < output.index("--colour")
    assert "Do it." in output


def test_settings_are_what_was_given() -> None:
    assert settings_of(Place(), Look(None)) == {}
    assert settings_of(Place(0, [Path("a")])) == {"port": 0, "folders": ["a"]}
    assert settings_of(Look(None, None, Colour.RED, True)) == {"colour": "red", "bright": True}
