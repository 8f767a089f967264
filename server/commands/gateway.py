"""`comfystream gateway`: a network of one machine for workers and the apps that use them."""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from comfystream.errors import ConfigError

from ..flags import grouped

if TYPE_CHECKING:
    from comfystream.settings import ServerSettings

    from ..gateway.app import GatewayOptions
    from ..gateway.rtmp import GatewayRtmp

__all__ = ["gateway"]

PORT, RTMP_PORT = 9935, 1935
DEVELOPMENT = "development"  # on the loopback it keeps nobody out, it is only that workers have to send one
DRAIN_S = 10.0


@dataclass(frozen=True, slots=True)
class GatewayNetworkFlags:
    """Where the gateway listens, and how it is reached."""

    PANEL: ClassVar = "Network"

    host: Annotated[str, typer.Option(metavar="HOST", help="Address to listen on.")] = "127.0.0.1"
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="Port; 0 takes a free one.")
    ] = PORT
    rtmp_port: Annotated[
        int | None, typer.Option(metavar="PORT", min=0, max=65535, help="Listen for OBS by RTMP: 1935; 0 for none.")
    ] = None
    media_ports: Annotated[
        str | None, typer.Option(metavar="RANGE", help="UDP ports for WebRTC, such as 50000-50100.")
    ] = None
    public_url: Annotated[str, typer.Option(metavar="URL", help="How clients reach it, behind a proxy.")] = ""
    insecure_tls: Annotated[
        bool, typer.Option("--insecure-tls", help="Accept any certificate of workers.")
    ] = False


@dataclass(frozen=True, slots=True)
class CallerFlags:
    """Who may call, and where results may go."""

    PANEL: ClassVar = "Who may call"

    secret: Annotated[
        str, typer.Option(metavar="SECRET", envvar="ORCH_SECRET", help="What workers send; off loopback one is made.")
    ] = ""
    api_key: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="What clients have to send; repeat for more.")
    ] = None
    allow_origin: Annotated[
        list[str] | None, typer.Option(metavar="URL", help='Sites that may call; "*" for all.')
    ] = None
    allow_push: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="RTMP receivers, with *; repeat.")
    ] = None


@dataclass(frozen=True, slots=True)
class GatewayStreamFlags:
    """What streams get."""

    PANEL: ClassVar = "Streams"

    max_streams: Annotated[int, typer.Option(min=1, metavar="N", help="Streams at once, at most.")] = 16
    idle: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="A stream that nobody uses ends after so long.")
    ] = 60.0


@grouped
def gateway(
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings, as YAML.")] = None,
    log_level: Annotated[
        str | None,
        typer.Option("--log-level", metavar="LEVEL", parser=str.upper, help="debug, info, warning or error."),
    ] = None,
    *,
    network: GatewayNetworkFlags,
    callers: CallerFlags,
    streams: GatewayStreamFlags,
) -> None:
    """Gateway and orchestrator in one, without a chain: try workers and apps on your own machine."""
    from comfystream.settings import load_settings

    given = {
        "host": network.host,
        "port": network.port,
        "rtmp_port": network.rtmp_port,
        "media_ports": network.media_ports,
        "allowed_push_urls": tuple(callers.allow_push) if callers.allow_push else None,
        "log_level": log_level,
    }
    settings = load_settings(config, given)
    secret, shown = _secret(callers.secret, settings)
    options = _options(
        settings,
        secret=secret,
        keys=tuple(callers.api_key or ()),
        origins=tuple(one.rstrip("/") for one in callers.allow_origin or ()),
        public_url=network.public_url,
        most_streams=streams.max_streams,
        idle_s=streams.idle,
        insecure_tls=network.insecure_tls,
    )
    asyncio.run(_serve(options, settings, shown, has_rtmp=network.rtmp_port != 0))


def _secret(given: str, settings: ServerSettings) -> tuple[str, str]:
    """The secret of workers, and how it is shown: one that was given is not."""
    made = DEVELOPMENT if settings.is_loopback else secrets.token_urlsafe(24)
    return (given, given if given == DEVELOPMENT else "...") if given else (made, made)


def _options(
    settings: ServerSettings,
    *,
    secret: str,
    keys: tuple[str, ...],
    origins: tuple[str, ...],
    public_url: str,
    most_streams: int,
    idle_s: float,
    insecure_tls: bool,
) -> GatewayOptions:
    from ..gateway.access import Access
    from ..gateway.app import GatewayOptions
    from ..gateway.outputs import ANY_RTMP
    from ..gateway.stream import StreamOptions
    from ..parts import ice_settings

    if public_url and not public_url.startswith(("http://", "https://")):
        raise ConfigError(f"--public-url {public_url}: http:// or https:// is needed", code="bad_url")
    return GatewayOptions(
        access=Access(secret, keys, origins, settings.is_loopback),
        ice=ice_settings(settings),
        streams=StreamOptions(idle_s=idle_s, most_viewers=settings.max_viewers),
        most_streams=most_streams,
        connects_per_s=settings.connects_per_s,
        public_url=public_url,
        verify_tls=not insecure_tls,
        push_urls=settings.allowed_push_urls or (ANY_RTMP if settings.is_loopback else ()),
    )


async def _serve(options: GatewayOptions, settings: ServerSettings, shown: str, *, has_rtmp: bool) -> None:
    from aiohttp import web

    from ..gateway.app import make_gateway_app, rtmp_key
    from ..serving import on_signals

    logging.getLogger().setLevel(settings.log_level)
    for chatty in ("aiohttp.access", "aioice", "aiortc"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))
    app = make_gateway_app(options)
    runner = web.AppRunner(app, shutdown_timeout=DRAIN_S, handler_cancellation=True)
    stopped = asyncio.Event()
    on_signals(stopped.set)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, settings.host, settings.port).start()
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}",
                code="cannot_listen",
                hint="another program may have the port; --port 0 takes a free one",
            ) from error
        port = runner.addresses[0][1]
        if has_rtmp:
            await _take_rtmp(app[rtmp_key], settings, port)
        _say_address(settings.host, port, shown, app[rtmp_key].port)
        await stopped.wait()
        print("comfystream: ending; workers are told", flush=True)
    finally:
        await runner.cleanup()


async def _take_rtmp(rtmp: GatewayRtmp, settings: ServerSettings, http_port: int) -> None:
    """Listen for RTMP; the usual port, which nobody asked for, may be taken."""
    here = "127.0.0.1" if settings.host in ("0.0.0.0", "localhost") else settings.host
    rtmp.base = f"http://{f'[{here}]' if ':' in here else here}:{http_port}"
    try:
        await rtmp.start(settings.host, settings.rtmp_port or RTMP_PORT)
    except ConfigError as error:
        if settings.rtmp_port:
            raise
        logging.getLogger(__name__).warning("no RTMP: %s; --rtmp-port chooses another port", error.message)


def _say_address(host: str, port: int, secret: str, rtmp_port: int) -> None:
    name = "localhost" if host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::") else host
    name = f"[{name}]" if ":" in name else name
    url = f"http://{name}:{port}"
    print(f"\n  Page:    {url}/")
    if rtmp_port:
        print(f"  OBS:     rtmp://{name}:{rtmp_port}/live/NAME?capability=comfystream&workflow=edges")
    print(f"  Worker:  ORCH_URL={url} ORCH_SECRET={secret} comfystream byoc\n", flush=True)
