"""`comfystream bench`: print what things cost beside something real, and write it down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from comfystream.errors import ComfyStreamError

from .machine import describe_machine
from .rows import Row, print_rows, write_rows

if TYPE_CHECKING:
    from .soak import Soaked

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)

Json = Annotated[Path | None, typer.Option("--json", help="Write the figures there as JSON.", dir_okay=False)]
Seconds = Annotated[float, typer.Option(min=2, help="How long, per engine.")]
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
    _report(json, engine=_engine(quick, comfyui))


@app.command()
def file(json: Json = None, quick: Quick = False) -> None:
    """A video file through a workflow, beside a loop that only decodes and encodes it."""
    _report(json, file=_file(quick))


@app.command()
def swap(json: Json = None, quick: Quick = False) -> None:
    """The longest gap in the output while a workflow that takes five seconds to load is put in."""
    _report(json, swap=_swap(quick))


@app.command()
def overload(seconds: Seconds = 120.0, json: Json = None, quick: Quick = False) -> None:
    """Memory, age and drops when the graph is three times slower than its input."""
    _report(json, overload=_overload(quick, seconds))


@app.command()
def child(json: Json = None, quick: Quick = False) -> None:
    """What the process border adds to the latency of a frame."""
    _report(json, child=_child(quick))


@app.command(name="all")
def everything(comfyui: Checkout = None, seconds: Seconds = 120.0, json: Json = None, quick: Quick = False) -> None:
    """All of them, one after the other."""
    _report(
        json,
        engine=_engine(quick, comfyui),
        file=_file(quick),
        swap=_swap(quick),
        overload=_overload(quick, seconds),
        child=_child(quick),
    )


# Torch is imported when a bench begins, not when somebody asks for --help.


def _engine(quick: bool, comfyui: Path | None) -> Iterator[Row]:
    from .engine import bench_engine

    yield from bench_engine(comfyui=comfyui, rounds=10 if quick else 200)


def _file(quick: bool) -> Iterator[Row]:
    from .file import bench_file

    yield from bench_file(frames=30, rounds=1) if quick else bench_file()


def _swap(quick: bool) -> Iterator[Row]:
    from .swap import bench_swap

    yield from bench_swap(load_s=0.3, steady_s=0.3) if quick else bench_swap()


def _overload(quick: bool, seconds: float) -> Iterator[Row]:
    from .overload import bench_overload

    yield from bench_overload(seconds=2.0 if quick else seconds)


def _child(quick: bool) -> Iterator[Row]:
    from .child import bench_child

    yield from bench_child(frames=5, warm_up=1) if quick else bench_child()


@app.command()
def accel(json: Json = None, quick: Quick = False) -> None:
    """What compiling brings on this processor: eager beside the Inductor, on a tiny UNet and TAESD at 128²."""
    from .accel import bench_accel

    _report(json, accel=bench_accel(rounds=3 if quick else 20))


@app.command()
def gpu(
    only: Annotated[list[str] | None, typer.Option(help="A workload; may be given several times.")] = None,
    rows: Annotated[list[int] | None, typer.Option(min=1, max=16, help="Pictures per tick, several times.")] = None,
    backends: Annotated[list[str] | None, typer.Option("--backend", help="A backend, several times.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every workload by every backend.")] = False,
    budget_s: Annotated[float, typer.Option(min=0, help="Leave out what would not end within so many seconds.")] = 0,
    precision: Annotated[str, typer.Option(help="fp16, bf16 or fp32.")] = "fp16",
    engines: Annotated[Path | None, typer.Option(help="Keep engines there.", file_okay=False)] = None,
    json: Json = None,
    quick: Quick = False,
) -> None:
    """Live models on this GPU: the first workload by each backend that works, the others by the fastest one."""
    from .gpu.command import measure_gpu

    try:
        measure_gpu(only or (), rows or (), backends or (), everything, budget_s, precision, engines, json, quick)
    except ComfyStreamError as error:
        Console(stderr=True).print(f"[red]error:[/] {error}", highlight=False)
        raise typer.Exit(2) from None


@app.command()
def rtc(
    seconds: Annotated[float, typer.Option(min=1, help="How long, per size, codec and contestant.")] = 6.0,
    json: Json = None,
    quick: Quick = False,
) -> None:
    """How long a picture takes over WebRTC to a server and back, beside a bare aiortc echo."""
    from .rtc import bench_rtc

    _report(json, rtc=iter(bench_rtc(seconds=1.0 if quick else seconds)))


@app.command()
def soak(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long.")] = 10.0,
    json: Json = None,
) -> None:
    """Four sessions, viewers who come and go, edits every second: does the server stay as it was?"""
    from .soak import bench_soak

    _soaked(minutes, json, bench_soak)


@app.command()
def trickle(
    seconds: Annotated[float, typer.Option(min=2.5, help="How long, per case and worker.")] = 8.0,
    pytrickle: Annotated[
        Path | None, typer.Option(help="An interpreter that has pytrickle; else .peers/pytrickle/bin/python.")
    ] = None,
    json: Json = None,
    quick: Quick = False,
) -> None:
    """How long a picture takes through a worker that passes it on over trickle, beside pytrickle's."""
    from .trickle import bench_trickle

    _report(json, trickle=iter(bench_trickle(seconds=2.5 if quick else seconds, pytrickle=pytrickle)))


@app.command()
def worker(
    seconds: Annotated[float, typer.Option(min=2.5, help="How long, per case.")] = 8.0,
    soak: Annotated[
        float | None, typer.Option("--soak", metavar="MINUTES", min=0.1, help="Edits every second instead, so long.")
    ] = None,
    json: Json = None,
    quick: Quick = False,
) -> None:
    """How long a picture takes through `comfystream byoc` over trickle, and the gap when its workflow is switched."""
    if soak is not None:
        from .worker_soak import bench_worker_soak

        _soaked(soak, json, bench_worker_soak)
        return
    from .worker import bench_worker

    _report(json, worker=bench_worker(2.5, load_s=0.5) if quick else bench_worker(seconds))


def _soaked(minutes: float, json: Path | None, bench: Callable[[float], Soaked]) -> None:
    try:
        found = bench(minutes)
    except ComfyStreamError as error:
        Console(stderr=True).print(f"[red]error:[/] {error}", highlight=False)
        raise typer.Exit(2) from None
    rows, console = found.rows(), Console()
    print_rows(console, f"{found.bench}, {minutes:g} min", rows)
    if json is not None:
        write_rows(json, rows, {**describe_machine(), "samples": [one.to_json() for one in found.samples]})
    missed = [row for row in rows if row.is_met is False]
    for row in missed:
        console.print(f"[red]not flat:[/] {row.case}, {row.metric}: {row.ours:.4g} {row.unit} (goal: {row.goal})")
    for trouble in found.troubles[:20]:
        console.print(f"[red]trouble:[/] {trouble}", highlight=False)
    if missed:
        raise typer.Exit(1)


def _report(json: Path | None, **benches: Iterator[Row]) -> None:
    console, found = Console(), []
    try:
        for title, bench in benches.items():
            rows = list(bench)
            print_rows(console, title, rows)
            found += rows
    except ComfyStreamError as error:
        Console(stderr=True).print(f"[red]error:[/] {error}", highlight=False)
        raise typer.Exit(2) from None
    if json is not None:
        write_rows(json, found, describe_machine())


if __name__ == "__main__":
    app()
