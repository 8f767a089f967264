"""`comfystream serve`: live video through a workflow, in the browser."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from comfystream.errors import ConfigError

if TYPE_CHECKING:
    from aiohttp import web

    from comfystream.engine.protocol import Engine, EngineOptions
    from comfystream.settings import ServerSettings

__all__ = ["serve"]

_NET, _ENGINE, _LOG = "Network", "Engine", "Log and metrics"
DRAIN_S = 5.0


def serve(
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings, as YAML.")] = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on.", rich_help_panel=_NET)] = None,
    port: Annotated[int | None, typer.Option("--port", help="Port; 0 takes a free one.", rich_help_panel=_NET)] = None,
    media_ports: Annotated[
        str | None, typer.Option("--media-ports", help="UDP ports: 50000-50100.", rich_help_panel=_NET)
    ] = None,
    token: Annotated[
        str | None, typer.Option("--token", help="Asked of callers; made up off loopback.", rich_help_panel=_NET)
    ] = None,
    max_sessions: Annotated[
        int | None, typer.Option("--max-sessions", metavar="N", help="Most at once.", rich_help_panel=_NET)
    ] = None,
    workspace: Annotated[
        str | None, typer.Option("--workspace", help="ComfyUI folder whose packs to use.", rich_help_panel=_ENGINE)
    ] = None,
    nodes: Annotated[
        list[Path] | None, typer.Option("--nodes", metavar="FOLDER", help="Node packs.", rich_help_panel=_ENGINE)
    ] = None,
    workflows: Annotated[
        list[Path] | None,
        typer.Option("--workflows", metavar="FOLDER", help="Workflows to offer.", rich_help_panel=_ENGINE),
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", help="Threads of torch.", rich_help_panel=_ENGINE)] = None,
    log_level: Annotated[str | None, typer.Option("--log-level", help="INFO.", rich_help_panel=_LOG)] = None,
    monitor: Annotated[bool, typer.Option("--monitor", hidden=True)] = False,
    stream_id_label: Annotated[
        bool, typer.Option("--stream-id-label", help="A metric per stream.", rich_help_panel=_LOG)
    ] = False,
    comfyui_log_level: Annotated[str | None, typer.Option("--comfyui-log-level", hidden=True)] = None,
    comfyui_inference_log_level: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Serve live video: open the address that it prints in a browser."""
    from comfystream.settings import load_settings

    flags = {
        "host": host,
        "port": port,
        "media_ports": media_ports,
        "token": token,
        "max_sessions": max_sessions,
        "workspace": workspace,
        "node_folders": [str(folder) for folder in nodes] if nodes else None,
        "workflow_folders": [str(folder) for folder in workflows] if workflows else None,
        "threads": threads,
        "log_level": log_level.upper() if log_level else None,
        "stream_id_label": True if stream_id_label else None,
    }
    run_server(load_settings(config, flags))


def run_server(settings: ServerSettings) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    from ..app import make_app
    from ..http.guard import Guard

    logging.getLogger().setLevel(settings.log_level)
    for chatty in ("aiohttp.access", "aioice", "aiortc"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))
    options = engine_options(settings)
    guard = Guard.for_settings(settings)
    app = make_app(settings, lambda: _start(options), guard)
    asyncio.run(_serve(app, settings, guard.token))


async def _serve(app: web.Application, settings: ServerSettings, token: str) -> None:
    from aiohttp import web

    from ..app import parts_key

    runner = web.AppRunner(app, shutdown_timeout=DRAIN_S)
    stopped = asyncio.Event()
    on_signals(stopped)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port)
        try:
            await site.start()
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}",
                code="cannot_listen",
                hint="another program may have the port; --port 0 takes a free one",
            ) from error
        app[parts_key].host.begin()
        port = runner.addresses[0][1]
        _say_address(settings.host, port, token)
        await stopped.wait()
        print("comfystream: ending; viewers are told", flush=True)
    finally:
        await runner.cleanup()


def on_signals(stopped: asyncio.Event) -> None:
    """Set the event on Ctrl-C and SIGTERM."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stopped.set)
        except (NotImplementedError, RuntimeError):  # Windows, or not the main thread: Ctrl-C raises instead
            return


def _say_address(host: str, port: int, token: str) -> None:
    name = "localhost" if host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::") else host
    query = f"/#token={token}" if token else "/"
    print(f"\n  ComfyStream:  http://{name}:{port}{query}\n", flush=True)
    if token:
        print("  Whoever has this address may do everything. Programs send: Authorization: Bearer TOKEN\n", flush=True)


def engine_options(settings: ServerSettings) -> EngineOptions:
    """What the engine loads.

    Raises:
        ConfigError: a folder that is not there.
    """
    from comfystream.catalog.standin import Folders
    from comfystream.engine.protocol import EngineOptions

    from ..loading import pack_folders, threads_beside_codecs

    folders = [Path(folder) for folder in settings.node_folders]
    more: dict[str, Any] = {}
    if settings.workspace:
        base = Path(settings.workspace).expanduser()
        if not base.is_dir():
            raise ConfigError(f"workspace {base}: there is no such folder", code="no_folder")
        more["folders"] = Folders(base=str(base.resolve()))
        folders += [base / "custom_nodes"] if (base / "custom_nodes").is_dir() else []
    threads = settings.threads or threads_beside_codecs()
    return EngineOptions(pack_folders=pack_folders(folders), threads=threads, **more)


def _start(options: EngineOptions) -> Engine:
    from comfystream.engine.child import ChildEngine

    return ChildEngine(options)
