"""What a session can read, and sessions that no browser begins."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, model_validator

from comfystream.errors import MediaError, NetworkError
from comfystream.session.live import LiveSession

from ..control.messages import SourceChoice
from ..control.service import error_body
from ..control.sources import choose, place_of
from ..parts import Parts
from .bodies import Resolution
from .errors import BadRequest, checked, json_body

__all__ = ["routes", "set_source"]


class NewSession(BaseModel):
    """POST /api/v1/sessions.

    Attributes:
        name: the id that it gets; one that cannot be guessed is made when there is none.
        workflow: one of the server's by name.
        prompt: a workflow as JSON, in API or editor format, in place of `workflow`.
        source: where frames come from; it keeps the session while it runs.
        size: of the frames to come, for warming up.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field("", max_length=64)
    workflow: str | None = Field(None, max_length=200)
    prompt: dict[str, Any] | None = None
    source: SourceChoice | None = None
    size: Resolution | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> NewSession:
        if self.workflow is not None and self.prompt is not None:
            raise ValueError("give either workflow or prompt")
        return self


def routes(parts: Parts) -> list[web.RouteDef]:
    """All of them."""
    sources = _Sources(parts)
    return [
        web.get("/api/v1/sources", sources.listed),
        web.post("/api/v1/sessions", sources.create),
    ]


async def set_source(parts: Parts, session: LiveSession, choice: SourceChoice, *, is_keeping: bool = False) -> None:
    """Choose the source that a body names.

    Raises:
        BadRequest: it cannot be read; says where in the body.
    """
    try:
        await choose(session, parts.rules, choice, is_keeping=is_keeping)
    except (MediaError, NetworkError) as error:
        body = error_body(error)
        raise BadRequest(body.message, field=place_of(choice), status=422, code=error.code, hint=error.hint) from error


class _Sources:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def listed(self, request: web.Request) -> web.Response:
        """What can be chosen: files by path, and the patterns of addresses."""
        files = await asyncio.to_thread(self._parts.rules.listed)
        return web.json_response(
            {"files": [asdict(file) for file in files], "urls": list(self._parts.settings.allowed_urls)}
        )

    async def create(self, request: web.Request) -> web.Response:
        """A session without a browser."""
        body: NewSession = checked(NewSession, await json_body(request))
        options = self._parts.options
        if body.size is not None:
            options = replace(options, size=replace(options.size, width=body.size.width, height=body.size.height))
        session = await self._parts.sessions.create(options, body.name)
        self._parts.metrics.watch(session)
        session.attach()  # loading may take minutes, and whoever waits for it has not left
        try:
            await self._begin(session, body)
        except BaseException:
            await self._parts.sessions.end(session.id, "it could not begin")
            raise
        finally:
            session.detach()
        info = await self._parts.control.describe(session)
        place = {"Location": f"/api/v1/sessions/{session.id}"}
        return web.json_response(info.model_dump(), status=201, headers=place)

    async def _begin(self, session: LiveSession, body: NewSession) -> None:
        if body.workflow is not None or body.prompt is not None:
            workflow = await self._parts.control.workflow(body.workflow, body.prompt)
            await session.set_workflow(workflow, who="REST")
        if body.source is not None:
            await set_source(self._parts, session, body.source, is_keeping=True)
