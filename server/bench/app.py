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
    Path | None,
    typer.Option("--comfyui", help="A ComfyUI checkout to compare with, run by this interpreter.", file_okay=False),
]


@app.callback()
def _bench() -> None:
    """Measure ComfyStream beside something real, in one run."""


@app.command()
def engine(comfyui: Checkout = None, json: Json = None, quick: Quick = False) -> None:
    """What the engine adds per frame to the nodes' own work."""
    from .engine import bench_engine

    _report("engine", bench_engine(comfyui=comfyui, rounds=10 if quick else 200), json)


@app.command()
def swap(json: Json = None, quick: Quick = False) -> None:
    """The longest gap in the output while a workflow that takes five seconds to load is put in."""
    from .swap import bench_swap

    _report("swap", bench_swap(load_s=0.5, steady_s=0.5) if quick else bench_swap(), json)


@app.command()
def overload(
    seconds: Annotated[float, typer.Option(min=2, help="How long, per engine.")] = 120.0,
    json: Json = None,
    quick: Quick = False,
) -> None:
    """Memory, age and drops when the graph is three times slower than its input."""
    from .overload import bench_overload

    _report("overload", bench_overload(seconds=2.0 if quick else seconds), json)


@app.command()
def child(json: Json = None, quick: Quick = False) -> None:
    """What the process border adds to the latency of a frame."""
    from .child import bench_child

    _report("child", bench_child(frames=10, warm_up=2) if quick else bench_child(), json)


@app.command()
def rtc(
    seconds: Annotated[float, typer.Option(min=1, help="How long, per size, codec and contestant.")] = 6.0,
    json: Json = None,
    quick: Quick = False,
) -> None:
    """How long a picture takes over WebRTC to a server and back, beside a bare aiortc echo."""
    from .rtc import bench_rtc

    _report("rtc", bench_rtc(seconds=1.0 if quick else seconds), json)


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
