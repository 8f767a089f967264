"""`comfystream bench`: print what things cost beside something real, and write it down."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from comfystream.errors import ComfyStreamError

from .machine import describe_machine
from .rows import Row, print_rows, write_rows

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)

Json = Annotated[Path | None, typer.Option("--json", help="Write the figures there as JSON.", dir_okay=False)]
Quick = Annotated[bool, typer.Option("--quick", help="A short run: shows that it works, not how fast.")]
Checkout = Annotated[
    Path | None, typer.Option("--comfyui", help="A ComfyUI checkout to compare with; loaded with this interpreter.", file_okay=False)
]


@app.callback()
def _bench() -> None:
    """Measure ComfyStream beside something real, in one run."""


@app.command()
def engine(comfyui: Checkout = None, json: Json = None, quick: Quick = False) -> None:
    """What the engine adds per frame to the nodes' own work."""
    from .engine import bench_engine

    _report("engine", bench_engine(comfyui=comfyui, rounds=10 if quick else 200), json)


def _report(title: str, rows: Iterable[Row], json: Path | None) -> None:
    console = Console()
    try:
        found = list(rows)
    except ComfyStreamError as error:
        Console(stderr=True).print(f"[red]error:[/] {error}", highlight=False)
        raise typer.Exit(2) from None
    print_rows(console, title, found)
    if json is not None:
        write_rows(json, found, describe_machine())


if __name__ == "__main__":
    app()
