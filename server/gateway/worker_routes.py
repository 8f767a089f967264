"""What workers and other gateways call: `/capability/...`, `/process/token`, `/ai/stream/...`."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from ..http.errors import BadRequest, checked, json_body
from .access import Access
from .client_routes import MOST_BODY, public_base
from .gateway import NoSuchStream
from .job import HEADER, Job
from .orchestrator import Attempt, Orchestrator
from .workers import Registered

__all__ = ["WorkerRoutes"]

_log = logging.getLogger(__name__)
URL_HEADER = "X-Capability-Url"
URLS = {"": "X-Publish-Url", "-out": "X-Subscribe-Url", "-control": "X-Control-Url", "-events": "X-Events-Url"}
URLS |= {"-data": "X-Data-Url"}
NOBODY = base64.b64encode(bytes(20)).decode()


class WorkerRoutes:
    """Handlers.

    Args:
        orchestrator: has the workers.
        access: knows the secret.
    """

    def __init__(self, orchestrator: Orchestrator, access: Access) -> None:
        self._orchestrator = orchestrator
        self._access = access
        self._foreign: dict[str, Attempt] = {}

    def add_to(self, app: web.Application) -> None:
        """Register all."""
        app.router.add_post("/capability/register", self.register)
        app.router.add_post("/capability/unregister", self.unregister)
        app.router.add_get("/process/token", self.token)
        app.router.add_get("/api/v1/capabilities", self.capabilities)
        handlers: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {
            "start": self.start,
            "stop": self.stop,
            "update": self.update,
            "payment": self.payment,
        }
        for name, handler in handlers.items():
            app.router.add_post(f"/ai/stream/{name}", handler)

    # --- the list

    def _check(self, request: web.Request) -> None:
        if not self._access.is_worker(request):
            _log.warning("%s: the secret of %s is wrong", request.path, request.remote)
            raise BadRequest("invalid authorization", code="bad_secret")

    async def register(self, request: web.Request) -> web.Response:
        """Put a worker on the list; it is called at the URL that it names."""
        self._check(request)
        said: Registered = checked(Registered, await json_body(request))
        workers = self._orchestrator.workers
        is_new = not any(one.url == said.url and one.name == said.name for one in workers)
        workers.register(said, public_base(request))
        if is_new:
            _log.info("worker %s offers %s", said.url, said.name)
        return web.Response(text="ok", content_type="application/json")

    async def unregister(self, request: web.Request) -> web.Response:
        """Take a capability off the list: the body is its name."""
        self._check(request)
        name = (await request.read())[:1000].decode(errors="replace").strip()
        count = self._orchestrator.workers.unregister(name, request.headers.get(URL_HEADER, ""))
        if count:
            _log.info("workers that left %s: %d", name, count)
        return web.Response(text="ok", content_type="application/json")

    async def capabilities(self, request: web.Request) -> web.Response:
        """What is on offer, for pages."""
        listed: dict[str, dict[str, Any]] = {}
        for worker in self._orchestrator.workers:
            one = listed.setdefault(worker.name, {"name": worker.name, "free": 0, "workers": []})
            one["free"] += worker.free
            one["workers"].append(
                {
                    "url": worker.url,
                    "health": worker.health.value,
                    "capacity": worker.said.capacity,
                    "load": worker.load,
                    "description": worker.said.description,
                }
            )
        return web.json_response(list(listed.values()))

    async def token(self, request: web.Request) -> web.Response:
        """What a gateway asks before it sends work: price (nothing costs anything), address, free places."""
        name = request.headers.get("Livepeer-Capability", "").strip()
        if not name:
            raise BadRequest("the header Livepeer-Capability is missing", field="Livepeer-Capability", code="bad_job")
        return web.json_response(
            {
                "sender_address": _sender(request.headers.get("Livepeer-Eth-Address", "")),
                "ticket_params": {"recipient": NOBODY},
                "balance": 0,
                "price": {"pricePerUnit": 0, "pixelsPerUnit": 1},
                "service_addr": public_base(request),
                "available_capacity": self._orchestrator.workers.capacity(name),
                "LastNonce": 0,
            }
        )

    # --- streams of other gateways

    async def start(self, request: web.Request) -> web.Response:
        """Start a stream for another gateway, which feeds and reads its channels."""
        job = Job.parse(request.headers.get(HEADER))
        document = await _object(request)
        params = document.get("params")
        if not job.id or len(job.id) > 300:
            raise BadRequest("the job has no usable id", field=HEADER, code="bad_job")
        known = self._foreign.get(job.id)
        if known is not None and not known.is_over:
            raise BadRequest("there is such a stream already", field="id", code="stream_exists")
        attempt = await self._orchestrator.start_somewhere(
            job.id, job.id, job.capability, job.wants, params if isinstance(params, dict) else {}, job.timeout_s
        )
        self._foreign = {id: one for id, one in self._foreign.items() if not one.is_over} | {job.id: attempt}
        headers = {URLS[kind]: url for kind, url in attempt.urls(public_base(request)).items()}
        return web.Response(headers={**headers, "Livepeer-Balance": "0"})

    def _mine(self, request: web.Request) -> Attempt:
        job = Job.parse(request.headers.get(HEADER))
        id = job.id or str(job.request.get("stream_id") or "")
        attempt = self._foreign.get(id)
        if attempt is None or attempt.is_over:
            raise NoSuchStream(f'there is no stream "{id[:80]}"')
        return attempt

    async def stop(self, request: web.Request) -> web.Response:
        """Stop one of those."""
        attempt = self._mine(request)
        reply = await self._orchestrator.stop(attempt, (await request.read())[:MOST_BODY])
        return web.Response(body=reply.body if reply else b"", status=reply.status if reply else 200)

    async def update(self, request: web.Request) -> web.Response:
        """Change one of those."""
        attempt = self._mine(request)
        reply = await self._orchestrator.update(attempt, json.dumps(await _object(request)).encode())
        return web.Response(body=reply.body, status=reply.status, content_type=reply.content_type)

    async def payment(self, request: web.Request) -> web.Response:
        """Nothing costs anything here."""
        await asyncio.wait_for(request.read(), 10)
        return web.Response(headers={"Livepeer-Balance": "0"})


async def _object(request: web.Request) -> dict[str, Any]:
    document = await json_body(request)
    if not isinstance(document, dict):
        raise BadRequest("the body has to be a JSON object", code="bad_body")
    return document


def _sender(header: str) -> dict[str, str]:
    """Who asks, as it says itself; nothing is signed here."""
    try:
        document = json.loads(base64.b64decode(header))
    except (ValueError, RecursionError):
        return {"addr": "", "sig": ""}
    given = document if isinstance(document, dict) else {}
    return {"addr": str(given.get("addr", ""))[:100], "sig": str(given.get("sig", ""))[:500]}
