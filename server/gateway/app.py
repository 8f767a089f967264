"""The gateway's web application: clients, workers, channels and a page under one address."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from comfystream.byoc.stalls import stall_guard

from ..http.errors import answer_errors
from ..http.pages import icon, page, static
from ..library import BUNDLED, Library
from ..rtc.ice import IceSettings
from .access import Access
from .batch import Batch
from .calls import Calls
from .client_routes import ClientRoutes
from .gateway import Gateway
from .orchestrator import TRICKLE_PATH, Orchestrator
from .rtmp import GatewayRtmp
from .runner_routes import RunnerRoutes
from .runners import Runners
from .stream import StreamOptions
from .worker_routes import WorkerRoutes

__all__ = ["GatewayOptions", "gateway_key", "make_gateway_app", "rtmp_key", "runners_key"]

MOST_BODY = 64 << 20
gateway_key: web.AppKey[Gateway] = web.AppKey("gateway", Gateway)
rtmp_key: web.AppKey[GatewayRtmp] = web.AppKey("rtmp", GatewayRtmp)
runners_key: web.AppKey[Runners] = web.AppKey("runners", Runners)


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """What an operator may choose.

    Attributes:
        access: who may call.
        ice: how clients are reached.
        streams: how streams are treated.
        most_streams: at once.
        connects_per_s: WHIP and WHEP connections.
        public_url: under which clients reach it; empty takes what they called.
        verify_tls: False accepts any certificate of workers.
        watch_s: how often workers are asked how they are.
        beat_s: how often live runners are to be heard of.
        push_urls: patterns of RTMP addresses that streams may be sent to.
    """

    access: Access
    ice: IceSettings = field(default_factory=IceSettings)
    streams: StreamOptions = field(default_factory=StreamOptions)
    most_streams: int = 16
    connects_per_s: int = 20
    public_url: str = ""
    verify_tls: bool = True
    watch_s: float = 1.0
    beat_s: float = 5.0
    push_urls: tuple[str, ...] = ()


def make_gateway_app(options: GatewayOptions) -> web.Application:
    """The application; it looks after workers from its start to its end."""
    access = options.access
    middlewares = [access.middleware(), answer_errors, stall_guard(but=f"{TRICKLE_PATH}/")]
    app = web.Application(middlewares=middlewares, client_max_size=MOST_BODY)
    orchestrator = Orchestrator(Calls(verify_tls=options.verify_tls), watch_s=options.watch_s)
    gateway = app[gateway_key] = Gateway(
        orchestrator, options.ice, options.streams, options.most_streams, options.push_urls
    )
    app[runners_key] = Runners(orchestrator.trickle, options.beat_s)
    app.on_response_prepare.append(access.add_headers)
    app.add_routes([web.get("/", _page), web.get("/favicon.ico", icon), web.get("/health", _health)])
    app.add_routes([web.get("/static/{file}", static), web.get("/workflows", _workflows)])
    app.add_routes([web.get("/workflows/", _workflows)])
    rtmp = app[rtmp_key] = GatewayRtmp(gateway, access.keys)
    clients = ClientRoutes(gateway, options.public_url, lambda: rtmp.port)
    clients.add_to(app, options.ice.current_servers, options.connects_per_s)
    WorkerRoutes(orchestrator, access).add_to(app)
    runners = RunnerRoutes(app[runners_key], access, orchestrator.calls)
    runners.add_to(app)
    Batch(orchestrator).add_to(app)
    app.add_subapp(TRICKLE_PATH, orchestrator.trickle.app())
    app.cleanup_ctx.append(lambda app: _life(app, runners))
    app.on_shutdown.insert(0, _drain)  # streams end while their channels are still there
    return app


async def _life(app: web.Application, runners: RunnerRoutes) -> AsyncIterator[None]:
    orchestrator = app[gateway_key].orchestrator
    watching = asyncio.create_task(orchestrator.watch(), name="gateway-workers")
    watching_runners = asyncio.create_task(runners.watch(), name="gateway-runners")
    yield
    for task in (watching, watching_runners):
        task.cancel()
    await asyncio.wait([watching, watching_runners])
    await orchestrator.calls.close()


async def _drain(app: web.Application) -> None:
    await app[rtmp_key].close()
    app[runners_key].close()
    await app[gateway_key].close()
    await app[gateway_key].orchestrator.close()


async def _page(request: web.Request) -> web.StreamResponse:
    return page("gateway.html")


async def _health(request: web.Request) -> web.Response:
    return web.json_response({"status": "OK"})


async def _workflows(request: web.Request) -> web.Response:
    """Workflows that come along, with all that a start needs."""
    return web.json_response(await asyncio.to_thread(_listed))


def _listed() -> list[dict[str, Any]]:
    found = []
    for one in Library().listed():
        path = BUNDLED / f"{one.name}.json"
        if path.is_file():
            about = {"id": one.name, "name": one.name, "title": one.title, "description": one.description}
            found.append({**about, "takes": one.takes, "prompts": json.loads(path.read_text("utf-8"))})
    return found
