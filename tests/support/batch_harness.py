"""A worker that answers batch requests, and what callers send it."""

from __future__ import annotations

import base64
import contextlib
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from app_harness import Lent
from engine_harness import link, node
from PIL import Image
from worker_harness import Worker, serving

from comfystream.engine.child import ChildEngine
from comfystream.engine.protocol import FailPolicy
from comfystream.session.live_options import LiveOptions
from comfystream.session.live_size import FrameSize
from comfystream_server.batch.routes import Batch, BatchOptions
from comfystream_server.batch.tasks import Tasks
from comfystream_server.byoc.backend import WorkflowBackend


@dataclass
class Batches(Worker):
    """A worker with its batch side."""

    batch: Batch

    async def post(self, path: str, body: Any = None, **more: Any) -> Reply:
        if body is not None:
            more["json"] = body
        async with self.session.post(self.url + path, **more) as response:
            return Reply(response.status, dict(response.headers), await response.read())


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def mime(self) -> str:
        return self.headers.get("Content-Type", "").split(";")[0]

    @property
    def metadata(self) -> dict[str, Any]:
        return dict(json.loads(self.headers["X-Metadata"]))

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return dict(self.json["error"])

    @property
    def picture(self) -> Image.Image:
        return Image.open(io.BytesIO(self.body))

    @property
    def events(self) -> list[dict[str, Any]]:
        lines = [line.removeprefix("data: ") for line in self.body.decode().splitlines() if line.startswith("data: ")]
        assert lines[-1] == "[DONE]"
        return [json.loads(line) for line in lines[:-1]]


@contextlib.asynccontextmanager
async def batches(
    engine: ChildEngine,
    folder: Path | None = None,
    *,
    capabilities: dict[str, Path | None] | None = None,
    waiting: int = 8,
    timeout_s: float = 60.0,
    limits: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[Batches]:
    """A worker with workflows of a folder (and those that come along)."""
    files = capabilities or {"test": None}
    live = LiveOptions(on_error=FailPolicy.PASSTHROUGH, size=FrameSize(width=64, height=48))
    backend = WorkflowBackend(lambda: Lent(engine), live, 2, files)
    folders = [folder] if folder is not None else []
    batch = Batch(backend.host, Tasks(files, folders), tuple(files), BatchOptions(waiting, timeout_s, **(limits or {})))
    options = {"capacity": 2, "more_routes": batch.add_routes, **options}
    async with serving(backend=backend, capabilities=tuple(files), **options) as worker:
        yield Batches(worker.server, worker.session, batch)


def save(folder: Path, name: str, graph: dict[str, Any], **sidecar: Any) -> None:
    (folder / f"{name}.json").write_text(json.dumps(graph))
    if sidecar:
        (folder / f"{name}.yaml").write_text(json.dumps(sidecar))


def png(value: int = 128, size: tuple[int, int] = (40, 30), kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((size[1], size[0], 3), value, np.uint8)).save(file, kind)
    return file.getvalue()


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def lasting(seconds: float, steps: int = 1, tag: str = "") -> dict[str, Any]:
    """Nodes one after the other, each of which takes that long; then a small picture."""
    graph = {"n0": node("TestSource", number=0.5, tag=tag)}
    for step in range(steps):
        graph[f"n{step + 1}"] = node("TestSlow", value=link(f"n{step}"), seconds=seconds)
    return {
        **graph,
        "card": node("TestCard", number=link(f"n{steps}"), size=8),
        "out": node("PreviewImage", images=link("card")),
    }
