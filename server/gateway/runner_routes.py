"""What live runners and their clients call: heartbeats, sessions, channels, and the way through to a runner."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from ..http.errors import BadRequest, checked, json_body
from .access import Access
from .calls import Calls
from .client_routes import public_base
from .orchestrator import TRICKLE_PATH
from .runners import TTL_S, Heartbeat, Runner, Runners, RunnerSession
from .sockets import is_socket, pass_socket

__all__ = ["RunnerRoutes"]

_log = logging.getLogger(__name__)
MOST_CHANNELS = 25
SWEEP_S = 1.0
CHANNEL = re.compile(r"[A-Za-z0-9_-]{1,100}")
HOP_BY_HOP = frozenset(
    ("connection", "host", "keep-alive", "proxy-authenticate", "proxy-authorization")
    + ("te", "trailer", "transfer-encoding", "upgrade")
)


class RunnerRoutes:
    """Handlers.

    Args:
        runners: the list.
        access: knows the secret.
        calls: to runners.
    """

    def __init__(self, runners: Runners, access: Access, calls: Calls) -> None:
        self._runners = runners
        self._access = access
        self._calls = calls

    def add_to(self, app: web.Application) -> None:
        """Register all: first what runners call, then what clients do."""
        add, own = app.router.add_route, "/runner/{runner}/session/{session}"
        add("POST", "/runners/heartbeat", self.heartbeat)
        add("POST", "/runners/{runner}/unregister", self.unregister)
        add("POST", f"{own}/channels", self.create_channels)
        add("DELETE", f"{own}/channels", self.delete_channels)
        add("POST", f"{own}/stop", self.stop_own)
        add("GET", "/discovery", self.discovery)
        add("POST", "/apps/{runner}/session", self.reserve)
        add("POST", "/apps/{runner}/session/{session}/stop", self.stop)
        add("*", "/apps/{runner}/session/{session}/app{path:(/.*)?}", self.call)
        add("*", "/apps/{runner}/app{path:(/.*)?}", self.call_once)

    async def watch(self) -> None:
        """Forget those who fell silent, again and again."""
        while True:
            for runner in self._runners.sweep():
                _log.warning("runner %s for %s is gone: no heartbeat", runner.id, runner.said.app)
            await asyncio.sleep(SWEEP_S)

    # --- runners

    async def heartbeat(self, request: web.Request) -> web.Response:
        """Put a runner on the list, or keep it there."""
        said: Heartbeat = checked(Heartbeat, await json_body(request))
        base, given = public_base(request), request.headers.get("Authorization", "")
        runner, is_new = self._runners.heartbeat(said, given, self._access.secret, base)
        reply: dict[str, Any] = {
            "runner_id": runner.id,
            "orchestrator": base,
            "heartbeat_interval": f"{self._runners.beat_s:g}s",
            "heartbeat_ttl": f"{TTL_S:g}s",
            "session_ids": list(runner.sessions),
        }
        if is_new:
            _log.info("runner %s offers %s", said.runner_url, said.app)
            url = f"{base}{TRICKLE_PATH}/{quote(runner.o2r, safe='')}"
            channel = {"name": "o2r", "channel_name": runner.o2r, "url": url, "mime_type": "application/json"}
            reply |= {"heartbeat_secret": runner.secret("heartbeat"), "o2r": channel}
        return web.json_response(reply)

    async def unregister(self, request: web.Request) -> web.Response:
        """Take a runner off the list."""
        self._runners.unregister(request.match_info["runner"], request.headers.get("Authorization", ""))
        return web.Response(status=204)

    def _own(self, request: web.Request) -> tuple[Runner, RunnerSession]:
        runner = self._runners.ready(request.match_info["runner"])
        token = request.headers.get("Livepeer-Session-Token", "")
        return runner, self._runners.own_session(runner, request.match_info["session"], token)

    async def create_channels(self, request: web.Request) -> web.Response:
        """Channels for a session: with the addresses for clients and for the runner."""
        runner, session = self._own(request)
        made = []
        for one in await _listed(request):
            name, mime = (one.get("name"), one.get("mime_type")) if isinstance(one, dict) else (None, None)
            name = _channel(name)
            full, mime = self._runners.create_channel(session, name, mime if isinstance(mime, str) else "")
            path = f"{TRICKLE_PATH}/{quote(full, safe='')}"
            urls = {"url": public_base(request) + path, "internal_url": runner.base + path}
            made.append({"name": name, "channel_name": full, **urls, "mime_type": mime})
        return web.json_response({"channels": made})

    async def delete_channels(self, request: web.Request) -> web.Response:
        """End some of them."""
        _, session = self._own(request)
        names = await _listed(request)
        for name in names:
            self._runners.delete_channel(session, _channel(name))
        return web.json_response({"deleted": names})

    async def stop_own(self, request: web.Request) -> web.Response:
        """The runner gives a session up."""
        runner, session = self._own(request)
        self._runners.release(runner, session.id)
        return web.Response(status=204)

    # --- clients

    async def discovery(self, request: web.Request) -> web.Response:
        """Who is there. Where runners are reached is not told: clients go through here."""
        base = public_base(request)
        return web.json_response(
            [{"address": base, "runners": [_shown(one, base) for one in self._runners if one.is_ready]}]
        )

    async def reserve(self, request: web.Request) -> web.Response:
        """A session at a runner."""
        runner = self._runners.ready(request.match_info["runner"])
        if runner.said.mode != "persistent":
            raise BadRequest("only persistent runners have sessions", code="wrong_mode")
        session = self._runners.reserve(runner)
        url = f"{public_base(request)}/apps/{quote(runner.id, safe='')}/session/{session.id}"
        return web.json_response({"session_id": session.id, "app_url": f"{url}/app", "control_url": url})

    async def stop(self, request: web.Request) -> web.Response:
        """A client gives a session up."""
        self._runners.release(self._runners.get(request.match_info["runner"]), request.match_info["session"])
        return web.Response(status=204)

    async def call(self, request: web.Request) -> web.StreamResponse:
        """A request within a session."""
        runner = self._runners.ready(request.match_info["runner"])
        return await self._pass_on(request, runner, self._runners.session(runner, request.match_info["session"]))

    async def call_once(self, request: web.Request) -> web.StreamResponse:
        """A single request: its session lasts as long as that."""
        runner = self._runners.ready(request.match_info["runner"])
        if runner.said.mode != "single-shot":
            raise BadRequest("runner is not single-shot", code="wrong_mode")
        session = self._runners.reserve(runner)
        try:
            return await self._pass_on(request, runner, session)
        finally:
            self._runners.release(runner, session.id)

    async def _pass_on(self, request: web.Request, runner: Runner, session: RunnerSession) -> web.StreamResponse:
        url = runner.said.runner_url.rstrip("/") + request.match_info["path"]
        if request.query_string:
            url = f"{url}?{request.query_string}"
        headers = _end_to_end(request.headers)
        headers["Livepeer-Runner-Route"] = runner.id
        headers["Livepeer-Session-Id"] = session.id
        headers["Livepeer-Session-Token"] = runner.secret(f"session:{session.id}")
        control = f"{runner.base}/runner/{quote(runner.id, safe='')}/session/{session.id}"
        headers["Livepeer-Session-Control"] = control
        if is_socket(request):
            return await self._pass_socket(request, session, url, headers)
        body = await request.read()
        asking = self._calls.session.request(
            request.method, url, data=body, headers=headers, ssl=self._calls.verify_tls, allow_redirects=False
        )
        try:
            response = await asking
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise BadRequest(f"runner {runner.id}: {error}", status=502, code="runner_gone") from error
        async with response:
            answer = web.StreamResponse(status=response.status, headers=_end_to_end(response.headers))
            await answer.prepare(request)
            with contextlib.suppress(ConnectionError):  # the client has gone
                async for chunk in response.content.iter_any():
                    await answer.write(chunk)
            return answer


    async def _pass_socket(
        self, request: web.Request, session: RunnerSession, url: str, headers: CIMultiDict[str]
    ) -> web.StreamResponse:
        with session.one_more_socket():
            calls = self._calls
            return await pass_socket(request, calls.session, url, headers, session.over, verify_tls=calls.verify_tls)


def _end_to_end(headers: Any) -> CIMultiDict[str]:
    """What is meant for the other end."""
    left_out = HOP_BY_HOP | {"content-length", "content-encoding", "accept-encoding", "date", "server"}
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in left_out)


def _shown(runner: Runner, base: str) -> dict[str, Any]:
    said, used = runner.said, len(runner.sessions)
    end = "session" if said.mode == "persistent" else "app"
    shown = {
        "url": f"{base}/apps/{quote(runner.id, safe='')}/{end}",
        "app": said.app,
        "version": said.version,
        "metadata": said.metadata,
        "mode": said.mode,
        "capacity": said.places,
        "capacity_used": used,
        "capacity_available": said.places - used,
    }
    return shown if said.gpu is None else {**shown, "gpu": said.gpu}


async def _listed(request: web.Request) -> list[Any]:
    """`channels` of a body.

    Raises:
        BadRequest: there are none, or too many.
    """
    document = await json_body(request)
    channels = document.get("channels") if isinstance(document, dict) else None
    if not isinstance(channels, list) or not channels:
        raise BadRequest("channels is required", field="channels", code="bad_channels")
    if len(channels) > MOST_CHANNELS:
        raise BadRequest(f"channels cannot contain more than {MOST_CHANNELS} entries", code="bad_channels")
    return channels


def _channel(name: Any) -> str:
    text = name.strip().replace("/", "-") if isinstance(name, str) else ""
    if not CHANNEL.fullmatch(text):
        words = "trickle channel name may only contain alphanumerics, underscores, or hyphens"
        raise BadRequest(words if text else "trickle channel name is required", field="name", code="bad_channels")
    return text
