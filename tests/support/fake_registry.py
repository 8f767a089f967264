"""The list of capabilities that an orchestrator keeps."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

SECRET = "s3cret-of-the-orchestrator"
REGISTER, UNREGISTER = "/capability/register", "/capability/unregister"


class Registry:
    """What an orchestrator does with registrations; its answers can be set."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.answer = 200
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        body: Any = await request.text()
        if "json" in request.headers.get("Content-Type", ""):
            body = await request.json()
        self.asked.append((request.path, request.headers.get("Authorization", ""), body))
        if request.headers.get("Authorization") != SECRET:
            return web.Response(status=400, text="invalid authorization")
        return web.Response(status=self.answer, text="ok")

    def bodies(self, path: str) -> list[Any]:
        return [body for where, _, body in self.asked if where == path]


@contextlib.asynccontextmanager
async def registry(port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[Registry]:
    made = Registry()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", made.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
    made.url = f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()
