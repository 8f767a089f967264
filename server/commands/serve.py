"""`comfystream serve`: live video through a workflow, in the browser."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from ..comfyui_flags import LoadingFlags
from ..engine_flags import EngineFlags, FramesFlags
from ..flags import grouped, settings_of

if TYPE_CHECKING:
    from comfystream.engine.protocol import Engine, EngineOptions
    from comfystream.settings import ServerSettings

__all__ = ["serve"]


@dataclass(frozen=True, slots=True)
class NetworkFlags:
    """Where the server listens, and to whom."""

    PANEL: ClassVar = "Network"

    host: Annotated[str | None, typer.Option(metavar="HOST", help="Address to listen on; loopback by default.")] = None
    port: Annotated[int | None, typer.Option(metavar="PORT", help="Port; 0 takes a free one.")] = None
    media_ports: Annotated[
        str | None, typer.Option(metavar="RANGE", help="UDP ports for WebRTC, such as 50000-50100.")
    ] = None
    token: Annotated[
        str | None, typer.Option(metavar="TOKEN", help="What callers have to send; off loopback one is made.")
    ] = None
    tls: Annotated[
        str | None, typer.Option(metavar="self-signed", help="HTTPS with a certificate that is made here.")
    ] = None
    tls_cert: Annotated[str | None, typer.Option(metavar="FILE", help="HTTPS with this certificate (PEM).")] = None
    tls_key: Annotated[str | None, typer.Option(metavar="FILE", help="The private key of --tls-cert.")] = None
    drain_s: Annotated[
        float | None, typer.Option(metavar="S", help="Seconds that viewers have to leave when the server ends.")
    ] = None
    max_sessions: Annotated[int | None, typer.Option(metavar="N", help="Sessions at once, at most.")] = None
    rtmp_port: Annotated[
        int | None, typer.Option(metavar="PORT", help="Listen for OBS by RTMP; 1935 is usual.")
    ] = None


@dataclass(frozen=True, slots=True)
class SessionFlags:
    """What sessions may read, write and run."""

    PANEL: ClassVar = "Sessions"

    size: Annotated[str | None, typer.Option(metavar="WxH", help="Size of the pictures that workflows get.")] = None
    size_mode: Annotated[
        str | None, typer.Option(metavar="MODE", help="How they get it: follow, fit (bars) or fill (cut off).")
    ] = None
    workflow_folders: Annotated[
        list[Path] | None, typer.Option("--workflows", metavar="FOLDER", help="Workflows to offer; repeat.")
    ] = None
    source_folders: Annotated[
        list[Path] | None, typer.Option("--sources", metavar="FOLDER", help="Videos that they may read; repeat.")
    ] = None
    allowed_urls: Annotated[
        list[str] | None,
        typer.Option("--allow-url", metavar="PATTERN", help="Addresses that they may read; repeat."),
    ] = None
    recording_folder: Annotated[
        str | None, typer.Option("--recordings", metavar="FOLDER", help="Where they may record to.")
    ] = None


@dataclass(frozen=True, slots=True)
class LogFlags:
    """What is said of it."""

    PANEL: ClassVar = "Log and metrics"

    log_level: Annotated[
        str | None, typer.Option(metavar="LEVEL", parser=str.upper, help="debug, info, warning or error.")
    ] = None
    log_format: Annotated[str | None, typer.Option(metavar="FORMAT", help="text or json.")] = None
    stream_id_label: Annotated[
        bool, typer.Option("--stream-id-label", help="Metrics of each stream, not only of all.")
    ] = False


@dataclass(frozen=True, slots=True)
class FirstGenerationFlags:
    """Flags of the first generation that mean nothing here; taken, so that its start scripts go on."""

    PANEL: ClassVar = "First generation"

    monitor: Annotated[bool, typer.Option("--monitor", hidden=True)] = False
    comfyui_log_level: Annotated[str | None, typer.Option(hidden=True)] = None
    comfyui_inference_log_level: Annotated[str | None, typer.Option(hidden=True)] = None


@grouped
def serve(
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings, as YAML.")] = None,
    *,
    network: NetworkFlags,
    sessions: SessionFlags,
    engine: EngineFlags,
    frames: FramesFlags,
    comfyui: LoadingFlags,
    log: LogFlags,
    first_generation: FirstGenerationFlags,
) -> None:
    """Serve live video: open the address that it prints in a browser."""
    from comfystream.settings import load_settings

    given = settings_of(network, sessions, engine, frames, log) | comfyui.settings
    run_server(load_settings(config, given))


def run_server(settings: ServerSettings) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    from comfystream import logs
    from comfystream.allocator import keep_few_arenas

    from ..app import make_app
    from ..http.guard import Guard
    from ..serving import serve as serve_app
    from ..tls import tls_of

    keep_few_arenas()
    logs.begin(settings.log_level, settings.log_format)
    tls = tls_of(settings)
    options = engine_options(settings)
    guard = Guard.for_settings(settings)
    app = make_app(settings, lambda: _start(options), guard)
    asyncio.run(serve_app(app, settings, guard.token, tls))


def engine_options(settings: ServerSettings) -> EngineOptions:
    """What the engine loads.

    Raises:
        ConfigError: a folder that is not there.
    """
    from comfystream.catalog.standin import Folders
    from comfystream.engine.protocol import EngineOptions

    from ..loading import comfyui_options, pack_folders, threads_beside_codecs
    from ..workspace import find_workspace, own_packs

    base = find_workspace(settings.workspace or "", settings.comfyui)
    checkout = comfyui_options(settings.comfyui, api_nodes=settings.api_nodes, vram=settings.vram)
    folders = [*(Path(folder) for folder in settings.node_folders), *own_packs(base, checkout)]
    threads = settings.threads or threads_beside_codecs()
    return EngineOptions(
        pack_folders=pack_folders(folders),
        folders=Folders(base=str(base)),
        allow_packs=settings.allow_packs,
        block_packs=settings.block_packs,
        threads=threads,
        frames_on=settings.frames_on,
        comfyui=checkout,
    )


def _start(options: EngineOptions) -> Engine:
    from comfystream.engine.child import ChildEngine

    return ChildEngine(options)
