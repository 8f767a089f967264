"""A run as server-sent events: how far it is, then what it gave, in lines that every gateway takes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from aiohttp import web

from comfystream.engine.events import Progress
from comfystream.engine.once_job import OnceDone, Result
from comfystream.errors import ComfyStreamError
from comfystream.session.loop_bridge import call

from .faults import error_document, status_of

__all__ = ["EventStream", "Steps"]

MOST_LINE = 60 << 10  # gateways read lines of 64 KiB at most, and spin on a longer one
PART = 42 << 10  # bytes of a file per line: in base64 56 KiB, which leaves room for what is around them
QUIET_S = 10.0
MOST_STEPS = 128


class Steps:
    """Progress that waits to be sent; the oldest goes when the caller reads too slowly."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Progress] = asyncio.Queue(MOST_STEPS)

    def put(self, progress: Progress) -> None:
        """Never waits."""
        if self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait(progress)

    async def get(self) -> Progress:
        """The next one."""
        return await self._queue.get()

    def rest(self) -> list[Progress]:
        """All that wait."""
        return [self._queue.get_nowait() for _ in range(self._queue.qsize())]


class EventStream:
    """Made for one request.

    Args:
        request: it.
        send_s: how long its caller may take for a line.
    """

    def __init__(self, request: web.Request, send_s: float = 120.0) -> None:
        self._send_s = send_s
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        self._response = web.StreamResponse(headers=headers)
        self._request = request

    async def begin(self, ahead: int) -> None:
        """Send the head and say that the request was taken."""
        await self._response.prepare(self._request)
        await self.send({"type": "accepted", "ahead": ahead})

    async def follow(self, run: asyncio.Task[OnceDone], steps: Steps) -> OnceDone:
        """Tell the progress until the run has ended; a remark now and then keeps the line open.

        Raises:
            ComfyStreamError: what the run failed with.
        """
        while not run.done():
            waiting = asyncio.ensure_future(steps.get())
            done, _ = await asyncio.wait({run, waiting}, timeout=QUIET_S, return_when=asyncio.FIRST_COMPLETED)
            if waiting in done:
                await self.send(_step(waiting.result()))
                continue
            waiting.cancel()
            if not done:
                await self._write(b": it goes on\n\n")
        for step in steps.rest():
            await self.send(_step(step))
        return run.result()

    async def results(self, done: OnceDone, folder: Path, told: dict[str, Any]) -> None:
        """Send what there is, files in parts, and the end."""
        for index, one in enumerate(done.results):
            await self._result(index, one, folder)
        await self.send({"type": "done", "status": "success", **told})

    async def _result(self, index: int, one: Result, folder: Path) -> None:
        data = one.text.encode() if one.kind == "text" else await call((folder / one.file).read_bytes)
        mime = one.mime or "text/plain; charset=utf-8"
        size = {"width": one.width, "height": one.height} if one.width else {}
        parts = max(1, -(-len(data) // PART))
        head = {"type": "result", "index": index, "kind": one.kind, "node": one.node_id, "mime": mime, **size}
        if one.kind == "text" and len(json.dumps(one.text)) < PART:
            await self.send({**head, "text": one.text})
            return
        await self.send({**head, "bytes": len(data), "parts": parts})
        for part in range(parts):
            piece = base64.b64encode(data[part * PART : (part + 1) * PART]).decode()
            await self.send({"type": "part", "index": index, "part": part, "data": piece})

    async def failed(self, error: ComfyStreamError) -> None:
        """Say what went wrong: the status line is long gone."""
        await self.send({"type": "error", "code": status_of(error), **error_document(error)})

    async def send(self, document: dict[str, Any]) -> None:
        """One event."""
        line = f"data: {json.dumps(document)}"
        if len(line) > MOST_LINE:  # a name of a node that is a novel
            line = f"data: {json.dumps({'type': document['type'], 'truncated': True})}"
        await self._write(f"{line}\n\n".encode())

    async def _write(self, data: bytes) -> None:
        """Raises ConnectionError when the caller does not read."""
        try:
            async with asyncio.timeout(self._send_s):
                await self._response.write(data)
        except TimeoutError:
            if self._request.transport is not None:
                self._request.transport.abort()
            raise ConnectionResetError("the caller does not read") from None

    async def end(self) -> web.StreamResponse:
        """Close it: relays look for this line."""
        await _quietly(self._response.write(b"data: [DONE]\n\n"))
        await _quietly(self._response.write_eof())
        return self._response


async def _quietly(sending: Awaitable[Any]) -> None:
    """The caller may be gone."""
    with contextlib.suppress(ConnectionError):
        await sending


def _step(progress: Progress) -> dict[str, Any]:
    node = {"node": progress.node_id} if progress.node_id else {}
    bar = {"value": progress.value, "maximum": progress.maximum} if progress.maximum else {}
    words = {"message": progress.message} if progress.message else {}
    counts = {"done": progress.done, "total": progress.total}
    return {"type": "progress", "phase": progress.phase, **node, **counts, **bar, **words}
