"""What a batch request asks for: JSON, a form, or a bare picture, made into one shape and checked."""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .faults import TOO_LARGE, Refused

__all__ = ["Asked", "Options", "check_picture", "read_request"]

MOST_PIXELS = 4096 * 6144  # as float32 RGB 300 MB; a camera's picture, not a poster
MOST_VALUES = 200
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MEDIA = ("image", "audio")
Value = str | int | float | bool


class Options(BaseModel):
    """The fields of a request that are not values of its workflow.

    Attributes:
        workflow: a name or a graph, in place of the one of the path.
        values, params: constants by "node.input".
        width, height: of the picture.
        format: of the reply; wins over the Accept header, which gateways do not pass on.
        quality, fps: of JPEG and WebP, of MP4.
        stream: progress and results as server-sent events.
        timeout_seconds: until the answer.
    """

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    workflow: str | dict[str, Any] | None = None
    values: dict[str, Value] = Field(default_factory=dict, max_length=MOST_VALUES)
    params: dict[str, Value] = Field(default_factory=dict, max_length=MOST_VALUES)
    width: int | None = Field(None, ge=16, le=8192)
    height: int | None = Field(None, ge=16, le=8192)
    seed: int | None = Field(None, ge=-1, lt=1 << 64)
    format: str = Field("", max_length=40)
    quality: int = Field(90, ge=1, le=100)
    fps: float = Field(24.0, ge=1, le=240)
    stream: bool = False
    timeout_seconds: float | None = Field(None, gt=0, le=86400)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request.

    Attributes:
        options: what it says about itself.
        more: further fields: values that the workflow has to know.
        media: files by field: "image", "audio", or the title or id of a node that loads one.
    """

    options: Options
    more: dict[str, Value]
    media: dict[str, bytes] = field(default_factory=dict)


async def read_request(request: web.Request) -> Asked:
    """The request in one shape.

    Raises:
        Refused: it cannot be read; says which field.
        HTTPRequestEntityTooLarge: it is larger than the worker takes.
    """
    kind = request.content_type.lower()
    media: dict[str, bytes] = {}
    if kind == "multipart/form-data":
        document = await _form(request, media)
    elif kind.startswith(("image/", "audio/")):
        media[kind.split("/")[0]] = await request.read()
        document = {name: _scalar(text) for name, text in request.query.items()}
    else:
        document = _document(await request.read(), kind)
    header = request.headers.get("Timeout-Seconds") or request.headers.get("X-Timeout-Seconds")
    if header and "timeout_seconds" not in document:
        document["timeout_seconds"] = header
    return _checked(document, media)


def _document(raw: bytes, kind: str) -> dict[str, Any]:
    if not raw.strip():
        return {}
    if kind not in ("application/json", "application/octet-stream", "text/json") and not kind.endswith("+json"):
        raise Refused(
            f"the body is {kind[:80]}", status=415, code="bad_body", hint="JSON, a form, or a picture is needed"
        )
    try:
        document = json.loads(raw, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Refused(f"the body is not JSON: {error}"[:300], code="not_json") from None
    if not isinstance(document, dict):
        raise Refused("the body must be a JSON object", code="not_json")
    return document


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


async def _form(request: web.Request, media: dict[str, bytes]) -> dict[str, Any]:
    """Files by field; the fields beside them, of which "json" may hold several."""
    try:
        form = await request.post()
    except (ValueError, AssertionError, LookupError, RuntimeError) as error:
        raise Refused(f"the form cannot be read: {error}"[:300], code="bad_body") from None
    document: dict[str, Any] = {}
    for name, part in form.items():
        if isinstance(part, web.FileField):
            media[name] = part.file.read()
        elif isinstance(part, bytes | bytearray):
            media[name] = bytes(part)
        elif name == "json":
            document.update(_document(part.encode(), "application/json"))
        else:
            document[name] = part if name in ("prompt", "negative_prompt") else _scalar(part)
    return document


def _scalar(text: str) -> Any:
    """A field of a form or query: a number, a truth value or an object where it reads as one, else the text."""
    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, list) or value is None else value


def _checked(document: dict[str, Any], media: dict[str, bytes]) -> Asked:
    for name in MEDIA:
        if name in document:
            media[name] = _decoded(name, document.pop(name))
    inner = document.get("params") if isinstance(document.get("params"), dict) else None
    for name in MEDIA:
        if inner is not None and name in inner and name not in media:
            media[name] = _decoded(f"params.{name}", inner[name])
            document["params"] = inner = {key: value for key, value in inner.items() if key != name}
    try:
        options = Options.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])[:200]
        raise Refused(f"{place}: {first['msg']}", field=place, code="bad_field") from None
    more = dict(options.model_extra or {})
    for name, value in more.items():
        if isinstance(value, str) and value.startswith("data:"):
            media[name] = _decoded(name, value)
        elif not isinstance(value, str | int | float | bool):
            raise Refused(f"{name[:80]}: a text or a number is needed", field=name[:80], code="bad_field")
        elif isinstance(value, float) and not math.isfinite(value):
            raise Refused(f"{name[:80]}: a finite number is needed", field=name[:80], code="bad_field")
    return Asked(options, {name: value for name, value in more.items() if name not in media}, media)


def _decoded(name: str, given: Any) -> bytes:
    """The bytes of base64 text, as a data URL or bare."""
    if not isinstance(given, str):
        raise Refused(f"{name}: base64 or a data URL is needed", field=name, code="bad_field")
    if given.startswith(("http://", "https://", "file:")):
        raise Refused(
            f"{name}: addresses are not fetched", field=name, code="bad_field", hint="send the file itself, as base64"
        )
    head, comma, tail = given.partition(",")
    if given.startswith("data:"):
        if not comma or not head.endswith(";base64"):
            raise Refused(f"{name}: the data URL is not base64", field=name, code="bad_field")
        given = tail
    try:
        return base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(f"{name}: this is not base64", field=name, code="bad_field") from None


def check_picture(name: str, data: bytes) -> tuple[int, int]:
    """Width and height of a picture, from its head: nothing is unpacked that might be a thousand times as large.

    Raises:
        Refused: it is none of the kinds that are taken, or too large.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            width, height = picture.size
    except Image.DecompressionBombError:
        width = height = 1 << 20
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, OverflowError):
        known = ", ".join(FORMATS)
        raise Refused(f"{name}: this is no picture", field=name, code="bad_image", hint=f"one of {known}") from None
    if width * height > MOST_PIXELS:
        raise Refused(
            f"{name}: the picture has more than {MOST_PIXELS // 1_000_000} million pixels",
            field=name,
            status=TOO_LARGE,
            code="too_many_pixels",
        )
    return width, height
