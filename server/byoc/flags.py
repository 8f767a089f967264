"""The options of `comfystream byoc`, in groups."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from comfystream.errors import ConfigError

__all__ = [
    "BatchFlags",
    "PriceUnit",
    "RunnerFlags",
    "RunnerMode",
    "RunnerOptions",
    "StreamFlags",
    "WorkerLogFlags",
    "WorkerNetworkFlags",
]


class RunnerMode(StrEnum):
    """What a live runner is for."""

    PERSISTENT = "persistent"
    SINGLE_SHOT = "single-shot"
    BOTH = "both"


class PriceUnit(StrEnum):
    """What a price is for."""

    HOUR = "hour"
    HD = "720p"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """How a worker is offered as a live runner."""

    mode: RunnerMode = RunnerMode.PERSISTENT
    app: str = ""
    price: float = 0.01
    unit: PriceUnit = PriceUnit.HOUR


@dataclass(frozen=True, slots=True)
class WorkerNetworkFlags:
    """Where the worker listens."""

    PANEL: ClassVar = "Network"

    host: Annotated[str, typer.Option(metavar="HOST", help="Address to listen on.")] = "0.0.0.0"
    port: Annotated[int, typer.Option(metavar="PORT", help="Port; 0 takes a free one.")] = 8000
    insecure_tls: Annotated[
        bool,
        typer.Option(
            "--insecure-tls",
            envvar="ORCH_INSECURE_TLS",
            help="Accept any certificate: orchestrators sign their own.",
        ),
    ] = False


@dataclass(frozen=True, slots=True)
class RunnerFlags:
    """How it is offered where live runners are taken."""

    PANEL: ClassVar = "Live runner"

    live_runner: Annotated[
        bool, typer.Option("--live-runner", help="Heartbeats in place of registration.")
    ] = False
    runner_mode: Annotated[
        RunnerMode, typer.Option(help="Offer sessions, single requests, or both.")
    ] = RunnerMode.PERSISTENT
    runner_app: Annotated[str, typer.Option(metavar="NAME", help="Its name, for one capability.")] = ""
    runner_price: Annotated[float, typer.Option(metavar="USD", help="Price in US dollars.")] = 0.01
    runner_price_unit: Annotated[PriceUnit, typer.Option(help="What --runner-price is for.")] = PriceUnit.HOUR

    @property
    def options(self) -> RunnerOptions | None:
        """None without --live-runner."""
        given = RunnerOptions(self.runner_mode, self.runner_app, self.runner_price, self.runner_price_unit)
        return given if self.live_runner else None


@dataclass(frozen=True, slots=True)
class StreamFlags:
    """What streams get."""

    PANEL: ClassVar = "Streams"

    capacity: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Streams at once; CAPABILITY_CAPACITY or 1 by default.")
    ] = None
    width: Annotated[
        int, typer.Option(metavar="PIXELS", min=0, max=8192, help="Width of pictures; 0 leaves them as they come.")
    ] = 512
    height: Annotated[
        int, typer.Option(metavar="PIXELS", min=0, max=8192, help="Height of pictures; 0 leaves them as they come.")
    ] = 512
    on_error: Annotated[
        str | None,
        typer.Option(metavar="POLICY", help="What is shown when a node fails: hold, slate, passthrough or stop."),
    ] = None

    @property
    def size(self) -> tuple[int, int] | None:
        """Even sides, None to leave pictures as they come.

        Raises:
            ConfigError: one of the two is missing.
        """
        if bool(self.width) != bool(self.height):
            raise ConfigError("--width and --height are given together, or both are 0", code="bad_setting")
        return (self.width - self.width % 2, self.height - self.height % 2) if self.width else None


@dataclass(frozen=True, slots=True)
class BatchFlags:
    """What single requests get."""

    PANEL: ClassVar = "Batch requests"

    workflows: Annotated[
        list[Path] | None, typer.Option(metavar="FOLDER", help="Workflows for batch requests; repeat.")
    ] = None
    batch_queue: Annotated[int, typer.Option(metavar="N", min=0, help="Batch requests that may wait.")] = 8
    batch_timeout: Annotated[
        float, typer.Option(metavar="S", min=1, help="Seconds for a request that does not say.")
    ] = 120.0
    batch_max_result: Annotated[
        int, typer.Option(metavar="MIB", min=1, help="What a request may answer, at most.")
    ] = 64
    no_batch: Annotated[bool, typer.Option("--no-batch", help="Streams only.")] = False

    @property
    def limits(self) -> tuple[int, float, int] | None:
        """Requests that wait, seconds, and bytes of a result; None for no batch requests."""
        return None if self.no_batch else (self.batch_queue, self.batch_timeout, self.batch_max_result << 20)


@dataclass(frozen=True, slots=True)
class WorkerLogFlags:
    """What is said of it; the hidden ones are of the first generation and mean nothing here."""

    PANEL: ClassVar = "Log"

    log_level: Annotated[
        str | None, typer.Option(metavar="LEVEL", parser=str.upper, help="debug, info, warning or error.")
    ] = None
    disable_frame_skip: Annotated[bool, typer.Option("--disable-frame-skip", hidden=True)] = False
    comfyui_log_level: Annotated[str | None, typer.Option(hidden=True)] = None
    comfyui_inference_log_level: Annotated[str | None, typer.Option(hidden=True)] = None
