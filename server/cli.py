"""The `comfystream` command. Each command is a file in `commands/`; what is heavy is imported when a command runs."""

from __future__ import annotations

import importlib.util
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Annotated

import typer

import comfystream

from .commands import byoc, check, doctor, engines, fetch, gateway, nodes, run, serve, trickle
from .faults import INTERRUPTED, exit_code_of

__all__ = ["app", "main"]

app = typer.Typer(
    name="comfystream",
    help="Run any ComfyUI workflow on video and sound, frame by frame. No ComfyUI and no GPU needed.",
    epilog="Start with: comfystream run workflows/edges.json -i holiday.mp4 -o out.mp4",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.serve)
app.command("byoc")(byoc.byoc)
app.command("gateway")(gateway.gateway)
app.command("run")(run.run)
app.command("check")(check.check)
app.command("nodes")(nodes.nodes)
app.add_typer(fetch.app, name="fetch")
app.add_typer(engines.app, name="engines")
app.command("doctor")(doctor.doctor)
app.add_typer(trickle.app, name="trickle")


def _add_bench() -> None:
    """Benchmarks are a part of the repository that an installation may leave out."""
    if importlib.util.find_spec("comfystream_server.bench") is not None:
        from .commands import bench

        app.add_typer(bench.app, name="bench")


_add_bench()


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        print(f"comfystream {comfystream.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and the log.")] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; None takes those of the process.

    Returns:
        The exit code: 0 done, 1 a defect of ours, 2 bad input, 130 ended by Ctrl-C.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    is_debug = "--debug" in given  # wherever it stands
    logging.basicConfig(level=logging.DEBUG if is_debug else logging.WARNING, format="comfystream: %(message)s")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service manager's Ctrl-C
    try:
        outcome = app([word for word in given if word != "--debug"], prog_name="comfystream", standalone_mode=False)
        if outcome == INTERRUPTED:  # what newer releases of typer make of a KeyboardInterrupt
            raise KeyboardInterrupt
    except BaseException as error:  # noqa: BLE001 - process main: every error ends here as one line
        return exit_code_of(error, is_debug=is_debug)
    return outcome if isinstance(outcome, int) else 0
