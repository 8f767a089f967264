"""The routes that clients of the first generation know; each stands under `/live` too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aiohttp import web

from comfystream import logs
from comfystream.session.live import LiveSession
from comfystream.session.live_engine import EngineState
from comfystream.session.live_fps import FpsStats
from comfystream.session.live_size import FrameSize
from comfystream.workflow.model import Workflow

from ..control.first_generation import joined_workflow
from ..parts import Parts
from ..rtc.sdp import read_offer
from ..rtc.signaling import Resources
from .bodies import OfferBody
from .errors import checked, json_body
from .sources import set_source

__all__ = ["routes"]

PREFIXES = ("", "/live")
OK_HEADERS = {"Content-Type": "application/json"}  # what they look for, although the body is none


def routes(parts: Parts) -> list[web.RouteDef]:
    """All of them, with and without the prefix."""
    old = _Routes(parts)
    every = (
        ("GET", "/health", old.health),
        ("POST", "/offer", old.offer),
        ("POST", "/prompt", old.prompt),
        ("GET", "/streams/stats", old.all_stats),
        ("GET", "/stream/{stream_id}/stats", old.stats),
        ("GET", "/metrics", parts.metrics.handle),
    )
    found = [web.route(method, prefix + path, handler) for prefix in PREFIXES for method, path, handler in every]
    return [*found, *(route for prefix in PREFIXES for route in old.offers.routes(f"{prefix}/offer/{{resource}}"))]


class _Routes:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.offers = Resources(parts.settings.connects_per_s)

    async def health(self, request: web.Request) -> web.Response:
        """`OK` while the engine is there or coming, else 503, as while the server ends. JSON tells the whole truth."""
        state, reason = await self._parts.host.state()
        is_draining = self._parts.sessions.is_draining
        is_well = state is not EngineState.FAILED and not is_draining
        status = 200 if is_well else 503
        if "application/json" in request.headers.get("Accept", ""):
            return web.json_response(self._truth(state, reason), status=status)
        trouble = "DRAINING" if is_draining else f"ENGINE {state.upper()}"
        return web.Response(text="OK" if is_well else trouble, status=status, headers=OK_HEADERS)

    def _truth(self, state: EngineState, reason: str) -> dict[str, Any]:
        return {
            "draining": self._parts.sessions.is_draining,
            "engine": {"state": str(state), "reason": reason, "starts": self._parts.host.starts},
            "node_classes": len(self._parts.host.object_info),
            "broken_packs": [broken.pack for broken in self._parts.host.broken_packs],
            "sessions": len(self._parts.sessions),
            "max_sessions": self._parts.sessions.most,
        }

    async def offer(self, request: web.Request) -> web.Response:
        """A new viewer: the workflow is loaded first, then the offer is answered."""
        body: OfferBody = checked(OfferBody, await json_body(request))
        read_offer(body.offer.sdp, body.offer.type)  # a bad one is refused before it takes a session's place
        if body.session is not None:
            session, is_new = self._parts.sessions.get(body.session), False
            logs.enter(session.id)
        else:
            session, is_new = await self._new_session(body), True
        session.attach()  # loading may take minutes, and whoever waits for it has not left
        try:
            await self._load(session, body)
            if body.source is not None:
                await set_source(self._parts, session, body.source)
            viewer, sdp, kind = await self._parts.viewers.connect(session, body.offer.sdp, body.offer.type)
        except BaseException:
            if is_new:
                await self._parts.sessions.end(session.id, "its first viewer could not connect")
            raise
        finally:
            session.detach()
        headers = self.offers.add(viewer, session.id, body.offer.sdp).headers(request)
        answer = {"sdp": sdp, "type": kind, "session": session.id, "resource": headers["Location"]}
        return web.json_response(answer, headers=headers)

    async def _new_session(self, body: OfferBody) -> LiveSession:
        options = self._parts.options
        if body.resolution is not None:
            wanted = body.resolution
            rule = wanted.mode or options.size.rule
            options = replace(options, size=FrameSize(rule, wanted.width, wanted.height))
        session = await self._parts.sessions.create(options)
        logs.enter(session.id)
        self._parts.metrics.watch(session)
        return session

    async def _load(self, session: LiveSession, body: OfferBody) -> None:
        if body.workflow is not None:
            catalog = await self._parts.host.known()
            await session.set_workflow(self._parts.library.read(body.workflow, catalog), who="offer")
        elif body.prompts:
            await session.set_workflow(await self._workflow(body.prompts), who="offer")

    async def _workflow(self, prompts: Any) -> Workflow:
        return joined_workflow(prompts, await self._parts.host.known())

    async def prompt(self, request: web.Request) -> web.Response:
        """Replace the workflow of every session that has one: the first generation knew only one."""
        document = await json_body(request)
        workflow = await self._workflow(document)
        for session in self._parts.sessions:
            if session.workflow is not None:
                await session.set_workflow(workflow, who="POST /prompt")
        return web.Response(text="OK", headers=OK_HEADERS)

    async def all_stats(self, request: web.Request) -> web.Response:
        """Rates of all streams by id."""
        return web.json_response({session.id: _rates(session.output_fps()) for session in self._parts.sessions})

    async def stats(self, request: web.Request) -> web.Response:
        """Rates of one stream; an unknown one is said so with status 200."""
        wanted = request.match_info["stream_id"]
        for session in self._parts.sessions:
            if session.id == wanted:
                return web.json_response(_rates(session.output_fps()))
        return web.json_response({"error": "Stream not found"})


def _rates(stats: FpsStats) -> dict[str, Any]:
    return {
        "timestamp": stats.seconds,
        "fps": stats.fps,
        "minute_avg_fps": stats.minute_average,
        "minute_fps_array": [{"timestamp": second, "fps": fps} for second, fps in stats.minute],
    }
