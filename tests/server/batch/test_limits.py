"""How much one batch request may give, how many may be there at once, and callers that do not take their answer."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batch_harness import batches, coded, png, save
from engine_harness import link, node
from on_loop import on_loop, until
from PIL import Image

from comfystream.byoc import stalls
from comfystream.engine.child import ChildEngine


def many(count: int, size: int = 64) -> dict[str, Any]:
    """So many pictures of noise that hardly gets smaller, one node each."""
    graph: dict[str, Any] = {"in": node("LoadImage", image="example.png")}
    for number in range(count):
        scale = {"upscale_method": "bilinear", "width": size, "height": size, "crop": "disabled"}
        graph[f"n{number}"] = node("ImageScale", image=link("in"), **scale)
        graph[f"out{number}"] = node("PreviewImage", images=link(f"n{number}"))
    return graph


@pytest.mark.parametrize("form", ["json", "sse"])
@on_loop
async def test_results_that_are_larger_than_they_may_be_are_refused(
    shared_engine: ChildEngine, tmp_path: Path, form: str
) -> None:
    save(tmp_path, "one", many(1, 1024))
    noise = noisy(1024)
    async with batches(shared_engine, tmp_path, limits={"most_result_bytes": 1 << 20}) as worker:
        reply = await worker.post("/one", {"image": coded(noise), "format": form})
        error = reply.error if form == "json" else reply.events[-1]["error"]
        assert error["code"] == "result_too_large"
        assert "results are larger than 1 MiB" in error["message"]
        assert error["node"] == "out0"
        assert "JPEG" in error["hint"]
        assert reply.status == (413 if form == "json" else 200)
        small = await worker.post("/one", {"image": coded(png()), "format": form})
        assert small.status == 200, small.body[:300]


@on_loop
async def test_more_results_than_there_may_be_are_refused(shared_engine: ChildEngine, tmp_path: Path) -> None:
    save(tmp_path, "many", many(4))
    async with batches(shared_engine, tmp_path, limits={"most_results": 3}) as worker:
        reply = await worker.post("/many", {"image": coded(png())})
        assert (reply.status, reply.error["code"]) == (413, "result_too_large")
        assert "more than 3 results" in reply.error["message"]
    async with batches(shared_engine, tmp_path, limits={"most_results": 4}) as worker:
        assert len((await worker.post("/many", {"image": coded(png())})).json["images"]) == 4


@on_loop
async def test_uploads_that_never_end_take_places_and_no_more_than_there_are(shared_engine: ChildEngine) -> None:
    async with batches(shared_engine, waiting=0) as worker:
        writers = []
        for _ in range(8):
            _, writer = await asyncio.open_connection("127.0.0.1", worker.server.port)
            head = "POST /edges HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n{"
            writer.write(head.encode())
            writers.append(writer)
        await until(lambda: worker.batch._inside == 5, "the places that there are")
        reply = await worker.post("/edges", {"image": coded(png())})
        assert (reply.status, reply.error["code"]) == (503, "queue_full")
        assert reply.headers["Retry-After"]
        for writer in writers:
            writer.close()
        await until(lambda: worker.batch._inside == 0, "the places are free")
        assert (await worker.post("/edges", {"image": coded(png())})).status == 200


@on_loop
async def test_an_upload_that_stops_coming_gives_its_place_back(
    shared_engine: ChildEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stalls, "STALLED_S", 0.2)
    async with batches(shared_engine, waiting=0) as worker:
        reader, writer = await asyncio.open_connection("127.0.0.1", worker.server.port)
        head = "POST /edges HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n"
        writer.write(head.encode())
        for _ in range(6):  # slow, but coming
            await asyncio.sleep(0.1)
            writer.write(b" ")
        assert worker.batch._inside == 1
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"the body stopped coming" in answer
        await until(lambda: worker.batch._inside == 0, "the place is free")
        writer.close()


@on_loop
async def test_a_caller_that_does_not_take_its_answer_is_cut_off(shared_engine: ChildEngine, tmp_path: Path) -> None:
    save(tmp_path, "one", many(1, 1536))
    body = f'{{"image": "{coded(noisy(1024))}"}}'.encode()
    async with batches(shared_engine, tmp_path, limits={"send_s": 0.5}) as worker:
        reader, writer = await asyncio.open_connection("127.0.0.1", worker.server.port, limit=1024)
        head = f"POST /one HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        await until(lambda: worker.batch.runs.count == 1, "the run")
        await until(lambda: worker.batch._inside == 0, "its place is free")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(2 * 1536 * 1536)
        assert (await worker.post("/one", {"image": coded(png())})).status == 200
        writer.close()


def noisy(size: int) -> bytes:
    """A PNG that is as large as its pixels."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (size, size, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()
