"""`comfystream serve`: live video through a workflow, in the browser."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from comfystream.errors import ConfigError

from ..comfyui_flags import AllowPacks, BlockPacks, ComfyUIFolder, NoApiNodes, VramMode, comfyui_settings
from ..engine_flags import Decode, FramesOn

if TYPE_CHECKING:
    from comfystream.engine.protocol import Engine, EngineOptions
    from comfystream.settings import ServerSettings

__all__ = ["serve"]

_NET, _ENGINE, _LOG = "Network", "Engine", "Log and metrics"


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
    tls: Annotated[
        str | None, typer.Option("--tls", metavar="self-signed", help="HTTPS.", rich_help_panel=_NET)
    ] = None,
    tls_cert: Annotated[
        str | None, typer.Option("--tls-cert", metavar="FILE", help="HTTPS with this.", rich_help_panel=_NET)
    ] = None,
    tls_key: Annotated[
        str | None, typer.Option("--tls-key", metavar="FILE", help="Its key.", rich_help_panel=_NET)
    ] = None,
    drain_s: Annotated[
        float | None, typer.Option("--drain-s", metavar="S", help="For viewers to leave.", rich_help_panel=_NET)
    ] = None,
    max_sessions: Annotated[
        int | None, typer.Option("--max-sessions", metavar="N", help="Most at once.", rich_help_panel=_NET)
    ] = None,
    rtmp_port: Annotated[int | None, typer.Option(help="Takes OBS by RTMP; 1935.", rich_help_panel=_NET)] = None,
    recordings: Annotated[str | None, typer.Option(metavar="FOLDER", help="Where to.", rich_help_panel=_NET)] = None,
    size: Annotated[
        str | None, typer.Option("--size", metavar="WxH", help="Of the graph's pictures.", rich_help_panel=_ENGINE)
    ] = None,
    size_mode: Annotated[
        str | None, typer.Option("--size-mode", help="follow, fit or fill.", rich_help_panel=_ENGINE)
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
    sources: Annotated[
        list[Path] | None,
        typer.Option("--sources", metavar="FOLDER", help="Videos that sessions may read.", rich_help_panel=_ENGINE),
    ] = None,
    allow_url: Annotated[
        list[str] | None,
        typer.Option("--allow-url", metavar="PATTERN", help="Streams that they may.", rich_help_panel=_ENGINE),
    ] = None,
    comfyui: ComfyUIFolder = "",
    no_api_nodes: NoApiNodes = False,
    vram: VramMode = None,
    allow_pack: AllowPacks = None,
    block_pack: BlockPacks = None,
    threads: Annotated[int | None, typer.Option("--threads", help="Threads of torch.", rich_help_panel=_ENGINE)] = None,
    frames_on: FramesOn = None,
    decoder: Decode = None,
    log_level: Annotated[str | None, typer.Option("--log-level", help="INFO.", rich_help_panel=_LOG)] = None,
    log_format: Annotated[str | None, typer.Option("--log-format", help="text, json.", rich_help_panel=_LOG)] = None,
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
        "tls": tls,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "drain_s": drain_s,
        "max_sessions": max_sessions,
        "rtmp_port": rtmp_port,
        "recording_folder": recordings,
        "size": size,
        "size_mode": size_mode,
        "workspace": workspace,
        "node_folders": [str(folder) for folder in nodes] if nodes else None,
        "workflow_folders": [str(folder) for folder in workflows] if workflows else None,
        "source_folders": [str(folder) for folder in sources] if sources else None,
        "allowed_urls": allow_url or None,
        **comfyui_settings(comfyui, no_api_nodes, vram, allow_pack, block_pack),
        "threads": threads,
        "decoder": decoder.value if decoder else None,
        "frames_on": frames_on.value if frames_on else None,
        "log_level": log_level.upper() if log_level else None,
        "log_format": log_format,
        "stream_id_label": True if stream_id_label else None,
    }
    run_server(load_settings(config, flags))


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

    folders = [Path(folder) for folder in settings.node_folders]
    more: dict[str, Any] = {}
    if settings.workspace:
        base = Path(settings.workspace).expanduser()
        if not base.is_dir():
            raise ConfigError(f"workspace {base}: there is no such folder", code="no_folder")
        more["folders"] = Folders(base=str(base.resolve()))
        folders += [base / "custom_nodes"] if (base / "custom_nodes").is_dir() else []
    threads = settings.threads or threads_beside_codecs()
    return EngineOptions(
        pack_folders=pack_folders(folders),
        allow_packs=settings.allow_packs,
        block_packs=settings.block_packs,
        threads=threads,
        frames_on=settings.frames_on,
        comfyui=comfyui_options(settings.comfyui, api_nodes=settings.api_nodes, vram=settings.vram),
        **more,
    )


def _start(options: EngineOptions) -> Engine:
    from comfystream.engine.child import ChildEngine

    return ChildEngine(options)
