"""A session's pictures for anybody who can show a JPEG: the newest one, and a preview that moves."""

from __future__ import annotations

import asyncio
import contextlib
import io
from dataclasses import dataclass, field

from aiohttp import web
from PIL import Image

from comfystream.clock import SystemClock
from comfystream.errors import BusyError
from comfystream.frames import VideoFrame
from comfystream.media.scale import Scaler
from comfystream.session.live import LiveSession
from comfystream.session.live_readers import Fanout
from comfystream.session.loop_bridge import call

from ..parts import Parts
from .errors import BadRequest

__all__ = ["encode_jpeg", "routes"]

QUALITY = 80
WIDTHS, RATES = (16, 1920), (0.1, 30.0)
DEFAULT_WIDTH, DEFAULT_RATE = 640, 10.0
MOST_CLIENTS = 32
BOUNDARY = "comfystream-picture"
WRITE_S = 30.0
NO_CACHE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def routes(parts: Parts) -> list[web.RouteDef]:
    """Both of them."""
    pictures = _Pictures(parts)
    return [
        web.get("/api/v1/sessions/{id}/snapshot.jpg", pictures.snapshot),
        web.get("/api/v1/sessions/{id}/preview.mjpg", pictures.preview),
    ]


def encode_jpeg(frame: VideoFrame, width: int | None = None) -> bytes:
    """A picture as JPEG, made smaller to `width` if it is wider; takes milliseconds: call it on a thread."""
    image = frame.image
    size = None
    if width is not None and image.width > width:
        size = (width, max(1, round(image.height * width / image.width)))
    pixels = Scaler().convert(image, "rgb24", size).to_ndarray()
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


@dataclass(slots=True)
class _Show:
    """One preview: its pictures are encoded once for all who watch it."""

    pictures: Fanout[bytes] = field(default_factory=lambda: Fanout(1))
    task: asyncio.Task[None] | None = None


class _Pictures:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._shows: dict[tuple[str, int, float], _Show] = {}

    async def snapshot(self, request: web.Request) -> web.Response:
        """The newest picture that came out."""
        session = self._parts.sessions.get(request.match_info["id"])
        if session.newest is None:
            raise _none_yet(session)
        data = await call(encode_jpeg, session.newest)
        return web.Response(body=data, content_type="image/jpeg", headers=NO_CACHE)

    async def preview(self, request: web.Request) -> web.StreamResponse:
        """Pictures one after the other, as `multipart/x-mixed-replace`; a client that is slow misses some."""
        session = self._parts.sessions.get(request.match_info["id"])
        width = int(_number(request, "width", DEFAULT_WIDTH, WIDTHS))
        rate = round(_number(request, "fps", DEFAULT_RATE, RATES), 1)
        if sum(len(show.pictures) for show in self._shows.values()) >= MOST_CLIENTS:
            raise BusyError(f"{MOST_CLIENTS} previews are watched already", code="too_many_previews")
        show = self._show(session, width, rate)
        async with show.pictures.subscribe() as pictures:
            response = web.StreamResponse(headers=NO_CACHE)
            response.headers["Content-Type"] = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
            await response.prepare(request)
            with contextlib.suppress(ConnectionError, TimeoutError):  # it has left, or takes nothing any more
                async for data in pictures:
                    async with asyncio.timeout(WRITE_S):
                        await response.write(_part(data))
        return response

    def _show(self, session: LiveSession, width: int, rate: float) -> _Show:
        key = (session.id, width, rate)
        show = self._shows.get(key)
        if show is None:
            show = self._shows[key] = _Show()
            show.task = asyncio.create_task(self._run(session, key, show), name=f"preview-{session.id}")
        return show

    async def _run(self, session: LiveSession, key: tuple[str, int, float], show: _Show) -> None:
        """Encodes until nobody watches, or the session ends."""
        clock, every_ns, due_ns = SystemClock(), int(1e9 / key[2]), 0
        try:
            if session.newest is not None:
                show.pictures.put(await call(encode_jpeg, session.newest, key[1]))
            async with session.subscribe() as frames:
                async for frame in frames:
                    if not len(show.pictures):
                        return
                    now = clock.now_ns()
                    if isinstance(frame, VideoFrame) and now >= due_ns:
                        due_ns = max(due_ns + every_ns, now)
                        show.pictures.put(await call(encode_jpeg, frame, key[1]))
        finally:
            del self._shows[key]
            show.pictures.close()


def _part(data: bytes) -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data + b"\r\n"


def _number(request: web.Request, name: str, default: float, limits: tuple[float, float]) -> float:
    text = request.query.get(name)
    try:
        value = float(text) if text is not None else default
    except ValueError:
        value = float("nan")
    if not limits[0] <= value <= limits[1]:
        raise BadRequest(f"{name} is a number from {limits[0]:g} to {limits[1]:g}", field=name)
    return value


def _none_yet(session: LiveSession) -> BadRequest:
    return BadRequest(f"session {session.id} has not put out a picture yet", status=409, code="no_picture")
