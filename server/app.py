"""The web application: routes, guards, and a life that ends in order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from aiohttp import web

from comfystream.byoc.stalls import stall_guard
from comfystream.engine.protocol import Engine
from comfystream.settings import ServerSettings

from .http import api, first_generation, pictures, sources
from .http.errors import answer_errors
from .http.guard import Guard
from .http.openapi import document
from .http.pages import icon, page, static
from .parts import Parts
from .rtc.whep import whep
from .rtc.whip import whip
from .rtmp.listener import RtmpListener
from .streaming import Publishing, Watching

__all__ = ["make_app", "parts_key", "rtmp_key"]

parts_key: web.AppKey[Parts] = web.AppKey("parts", Parts)
rtmp_key: web.AppKey[RtmpListener] = web.AppKey("rtmp", RtmpListener)


def make_app(
    settings: ServerSettings, start_engine: Callable[[], Engine], guard: Guard | None = None
) -> web.Application:
    """The application; its engine starts when it is first asked for, or by `Parts.host.begin`.

    Args:
        settings: of the operator.
        start_engine: makes the engine, on a thread.
        guard: who may call; None takes it from the settings.
    """
    guard = guard or Guard.for_settings(settings)
    middlewares = [answer_errors, guard.middleware(), stall_guard()]
    app = web.Application(middlewares=middlewares, client_max_size=settings.max_body_mb << 20)
    parts = app[parts_key] = Parts.make(settings, start_engine)
    app[rtmp_key] = RtmpListener(parts, guard)
    app.add_routes([web.get("/", _page), web.get("/live/", _ok), web.get("/favicon.ico", icon)])
    app.add_routes([web.get("/connectivity", _connectivity)])
    app.add_routes([*first_generation.routes(parts), *api.routes(parts)])
    app.add_routes([*sources.routes(parts), *pictures.routes(parts)])
    app.add_routes([web.get("/static/{file}", static), web.get("/docs", _docs), web.get("/openapi.json", _openapi)])
    servers, pace = parts.ice.current_servers, settings.connects_per_s
    whip(Publishing(parts), ice_servers=servers, connects_per_s=pace).add_to(app)
    whep(Watching(parts), ice_servers=servers, connects_per_s=pace).add_to(app)
    app.cleanup_ctx.append(_life)
    app.on_shutdown.append(_drain)
    return app


async def _life(app: web.Application) -> AsyncIterator[None]:
    app[parts_key].turn.begin()
    yield
    await app[parts_key].close()


async def _drain(app: web.Application) -> None:
    """Whoever is there is told and sessions end, which closes the sockets that the server would otherwise wait for."""
    await app[rtmp_key].close()
    await app[parts_key].connections.close()
    await app[parts_key].sessions.close()


async def _page(request: web.Request) -> web.StreamResponse:
    """The page for browsers; `OK` for the programs that looked here whether the server is alive."""
    if "text/html" in request.headers.get("Accept", ""):
        return page("index.html")
    return await _ok(request)


async def _docs(request: web.Request) -> web.StreamResponse:
    """The API, for reading."""
    return page("docs.html")


async def _openapi(request: web.Request) -> web.StreamResponse:
    """This API as an OpenAPI document."""
    return web.json_response(document(request.app))


async def _connectivity(request: web.Request) -> web.StreamResponse:
    """The page that tests the way between a browser and this server."""
    return page("connectivity.html")


async def _ok(request: web.Request) -> web.StreamResponse:
    """`OK`: the server is alive."""
    return web.Response(text="OK", headers=first_generation.OK_HEADERS)
