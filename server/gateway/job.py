"""The `Livepeer` header: what a client asks the network for. Base64 of JSON, in which two fields hold JSON as text."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from ..http.errors import BadRequest

__all__ = ["HEADER", "Job", "Wants", "text_as_object"]

HEADER = "Livepeer"
MOST_BYTES = 64 * 1024
MOST_TIMEOUT_S = 3600.0
DEFAULT_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Wants:
    """Which ways of a stream are used."""

    video_in: bool = True
    video_out: bool = True
    data: bool = True


@dataclass(frozen=True, slots=True)
class Job:
    """A request for a capability.

    Attributes:
        capability: name of what is asked for.
        timeout_s: how long a worker may take to answer.
        id: of a stream, where another gateway asks.
        request, parameters: the objects that stood in the header as text.
    """

    capability: str
    timeout_s: float
    id: str
    request: dict[str, Any]
    parameters: dict[str, Any]

    @classmethod
    def parse(cls, header: str | None) -> Job:
        """Read the header; padding may be missing, and so may `request` and `parameters`.

        Raises:
            BadRequest: it cannot be used; says why.
        """
        if not header:
            raise _bad("the Livepeer header is missing: base64 of JSON with at least a capability")
        document = _decoded(header)
        capability = document.get("capability")
        if not isinstance(capability, str) or not capability.strip():
            raise _bad("the Livepeer header names no capability")
        given_id = document.get("id")
        return cls(
            capability=capability.strip(),
            timeout_s=_timeout_s(document.get("timeout_seconds")),
            id=given_id if isinstance(given_id, str) else "",
            request=text_as_object(document.get("request"), "request"),
            parameters=text_as_object(document.get("parameters"), "parameters"),
        )

    @property
    def wants(self) -> Wants:
        """Ways that are switched on; all, when the header speaks of none."""
        names = ("enable_video_ingress", "enable_video_egress", "enable_data_output")
        if not any(name in self.parameters for name in names):
            return Wants()
        return Wants(*(self.parameters.get(name) is True for name in names))


def text_as_object(value: Any, field: str) -> dict[str, Any]:
    """An object, JSON text of one, or nothing.

    Raises:
        BadRequest: it is something else.
    """
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise _bad(f"{field} is not JSON: {error}"[:200], field) from None
    if value is None or value == "":
        return {}
    if not isinstance(value, dict):
        raise _bad(f"{field} has to be a JSON object, or one as text", field)
    return value


def _decoded(header: str) -> dict[str, Any]:
    text = header.strip().rstrip("=").replace("-", "+").replace("_", "/")
    if len(text) > MOST_BYTES:
        raise _bad("the Livepeer header is too long")
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        document = json.loads(raw)
    except (binascii.Error, ValueError, RecursionError) as error:
        raise _bad(f"the Livepeer header is no base64 of JSON: {error}"[:200]) from None
    if not isinstance(document, dict):
        raise _bad("the Livepeer header has to hold a JSON object")
    return document


def _timeout_s(value: Any) -> float:
    if value is None:
        return DEFAULT_TIMEOUT_S
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise _bad("timeout_seconds has to be a number above 0")
    return min(float(value), MOST_TIMEOUT_S)


def _bad(message: str, field: str = HEADER) -> BadRequest:
    return BadRequest(message, field=field, code="bad_job")
