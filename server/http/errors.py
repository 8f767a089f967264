"""Errors as HTTP replies: bad input is always a 4xx that says what and where."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ValidationError

from comfystream import logs
from comfystream.errors import (
    AssetError,
    BusyError,
    ComfyStreamError,
    ConfigError,
    EngineError,
    MediaError,
    NetworkError,
    NodeError,
    WorkflowError,
)
from comfystream.session.live_edits import StaleRevision
from comfystream.session.live_registry import NoSuchSession

from ..control.messages import ErrorBody
from ..control.service import error_body, validation_body

__all__ = ["BadRequest", "answer_errors", "error_reply", "json_body", "refused", "status_of"]

_log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_STATUS: tuple[tuple[type[ComfyStreamError], int], ...] = (
    (NoSuchSession, 404),
    (StaleRevision, 409),
    (NodeError, 422),
    (WorkflowError, 422),
    (ConfigError, 400),
    (NetworkError, 400),
    (MediaError, 400),
    (AssetError, 422),
    (BusyError, 503),
    (EngineError, 503),
)
_CODES = {
    "session_exists": 409,
    "session_ended": 410,
    "superseded": 409,
    "unknown_workflow": 404,
    "wrong_state": 409,
    "too_many_prompts": 400,
    "defect": 500,
}
_CODES |= {"sdp_too_large": 413, "unsupported_codec": 406, "not_found": 404, "wrong_content_type": 415, "too_fast": 429}
_CODES |= {"no_restart": 422}
RETRY_S = 5  # for a limit that does not say when


class BadRequest(ComfyStreamError, ValueError):
    """A request that cannot be read.

    Args:
        message: what is wrong.
        field: where in the body.
        status: of the reply.
    """

    default_code = "bad_request"

    def __init__(
        self, message: str, *, field: str | None = None, status: int = 400, code: str = "", hint: str = ""
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.field = field
        self.status = status


def status_of(error: ComfyStreamError) -> int:
    """The HTTP status for one of our errors."""
    if isinstance(error, BadRequest):
        return error.status
    if error.code in _CODES:
        return _CODES[error.code]
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def error_reply(status: int, body: ErrorBody, headers: dict[str, str] | None = None) -> web.Response:
    """An error as JSON."""
    return web.json_response({"error": body.model_dump(exclude_none=True)}, status=status, headers=headers)


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The request border: every error becomes a reply."""
    try:
        with logs.about(request.match_info.get("id", "")):
            return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        body = ErrorBody(code=f"http_{error.status}", message=error.reason)
        kept = {name: value for name, value in error.headers.items() if name in ("Allow", "Retry-After")}
        return error_reply(error.status, body, kept)
    except BadRequest as error:
        return error_reply(error.status, error_body(error, error.field))
    except ComfyStreamError as error:
        return refused(error)
    except Exception:  # noqa: BLE001 - request handler: logged once, the caller gets a plain 500
        _log.exception("%s %s met a defect", request.method, request.path)
        return error_reply(500, ErrorBody(code="defect", message="this is a defect of ComfyStream; see its log"))


def refused(error: ComfyStreamError) -> web.Response:
    """One of our errors as a reply."""
    retry_s = getattr(error, "retry_after_s", RETRY_S)
    status = status_of(error)
    headers = {"Retry-After": str(retry_s)} if status in (429, 503) else None
    return error_reply(status, error_body(error), headers)


async def json_body(request: web.Request) -> Any:
    """The body as JSON.

    Raises:
        BadRequest: it is none.
    """
    raw = await request.read()
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}"[:300], code="not_json") from None


def checked(model: type[BaseModel], document: Any) -> Any:
    """A body as `model`.

    Raises:
        BadRequest: it does not fit; says which field.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        body = validation_body(error)
        raise BadRequest(body.message, field=body.field, code=body.code) from None
