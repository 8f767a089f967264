"""What a batch request can fail with, and how that is told."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from comfystream.engine.once_job import OnceStopped
from comfystream.errors import BusyError, ComfyStreamError, EngineDied, EngineError, NodeError, WorkflowError

__all__ = ["Refused", "error_document", "error_response", "status_of"]

RETRY_S = 5
BAD_REQUEST, NOT_FOUND, TOO_LARGE, NODE_FAILED, BUSY, TOO_LATE, DISK_FULL = 400, 404, 413, 500, 503, 504, 507


class Refused(ComfyStreamError, ValueError):
    """A request that cannot be done as it is.

    Args:
        message: what is wrong.
        field: the field of the request that it is about.
        status: of the reply.
        code, hint, node_id: as with all errors.
    """

    default_code = "bad_request"

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        status: int = BAD_REQUEST,
        code: str = "",
        hint: str = "",
        node_id: str | None = None,
    ) -> None:
        super().__init__(message, code=code, hint=hint, node_id=node_id)
        self.field = field
        self.status = status


def status_of(error: ComfyStreamError) -> int:
    """4xx for what the caller can change, 500 for a node that failed and for our own, 503 for "try again", 507."""
    match error:
        case Refused():
            return error.status
        case ComfyStreamError(code="disk_full"):
            return DISK_FULL
        case BusyError() | EngineDied() | OnceStopped():
            return BUSY
        case NodeError():
            return NODE_FAILED
        case WorkflowError():
            return BAD_REQUEST
        case EngineError():
            return BUSY if error.code == "closed" else NODE_FAILED
    return NODE_FAILED


def error_document(error: ComfyStreamError) -> dict[str, Any]:
    """The error as JSON; `message` stands outside, too, as in the worker's other replies."""
    told = {
        "code": error.code,
        "message": error.message[:2000],
        "hint": error.hint[:1000],
        "field": error.field if isinstance(error, Refused) else None,
        "node": error.node_id,
        "class_type": error.class_type if isinstance(error, NodeError) else None,
    }
    kept = {name: value for name, value in told.items() if value}
    return {"status": "error", "message": str(error)[:3000], "error": kept}


def error_response(error: ComfyStreamError) -> web.Response:
    """The error as a reply."""
    status = status_of(error)
    headers = {"Retry-After": str(RETRY_S)} if status == BUSY else None
    text = json.dumps(error_document(error))
    return web.Response(text=text, status=status, content_type="application/json", headers=headers)
