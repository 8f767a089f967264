"""`comfystream serve` and `comfystream byoc` on a real checkout, with a workflow as its editor saves it.

All of its nodes are ComfyUI's own: LoadImage (the live picture takes its place), ImageScale, ImageInvert,
ImageQuantize, PreviewImage.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from on_loop import on_loop, until
from own_process import REPOSITORY
from PIL import Image
from worker_harness import camera, listening, orchestrator, play

WORKFLOW = Path(__file__).with_name("made_in_the_editor.json")
MAIN = "import sys; sys.path.append({importable!r}); from comfystream_server.cli import main; sys.exit(main())"
READY_S = 150.0
pytestmark = [pytest.mark.comfyui, pytest.mark.slow, pytest.mark.timeout(600)]


class Program:
    """One that runs under the Python of ComfyUI; its lines, and the address that it said."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.port = 0
        self.listens = threading.Event()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            found = re.search(r"(?:http://localhost|listens on 127\.0\.0\.1):(\d+)", line)
            if found and not self.port:
                self.port = int(found[1])
                self.listens.set()
        self.listens.set()

    @property
    def said(self) -> str:
        return "\n".join(self.lines[-40:])

    def ask(self, path: str, body: Any = None) -> tuple[int, bytes]:
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=READY_S) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


@contextlib.contextmanager
def program(python: str, checkout: Path, *words: str) -> Iterator[Program]:
    code = MAIN.format(importable=str(REPOSITORY / "importable"))
    command = [python, "-P", "-u", "-c", code, *words, "--comfyui", str(checkout), "--no-api-nodes"]
    environ = {key: value for key, value in os.environ.items() if not key.startswith("COMFYUI_")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ)
    running = Program(process)
    try:
        assert running.listens.wait(READY_S)
        assert running.port, running.said
        yield running
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


def test_serve_runs_it_live_and_says_what_is_wrong_with_others(checkout: Path, python: str) -> None:
    graph = json.loads(WORKFLOW.read_text("utf-8"))
    with program(python, checkout, "serve", "--port", "0") as server:
        source = {"type": "pattern", "width": 256, "height": 192}
        code, said = server.ask("/api/v1/sessions", {"prompt": graph, "source": source})
        assert code == 201, said
        session = json.loads(said)["session"]
        picture = f"/api/v1/sessions/{session}/snapshot.jpg"
        shown = np.asarray(Image.open(io.BytesIO(_when(server, picture))))
        assert shown.shape == (96, 128, 3), "ImageScale has made it so"

        for change, words in _mistakes(graph):
            message = {"v": 1, "type": "set_workflow", "workflow": change}
            code, said = server.ask(f"/api/v1/sessions/{session}/control", message)
            error = json.loads(said)["error"]
            told = f"{error['message']} {error['hint']}"
            assert code == 422, told
            for word in words:
                assert word in told, told
        assert server.ask(picture)[0] == 200, "the workflow before runs on"
        assert server.process.poll() is None


def _when(server: Program, path: str) -> bytes:
    """The first picture of it that is 128 wide: until the graph runs, the source's own is shown."""
    never = threading.Event()
    for _ in range(300):
        code, data = server.ask(path)
        if code == 200 and Image.open(io.BytesIO(data)).size == (128, 96):
            return data
        never.wait(0.1)
    raise AssertionError(server.said)


def _mistakes(graph: dict[str, Any]) -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
    unknown = json.loads(json.dumps(graph).replace("ImageQuantize", "ImageQuantise"))
    yield unknown, ("ImageQuantise", "ImageQuantize")
    api = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
        "2": {"class_type": "ImageQuantize", "inputs": {"image": ["1", 0], "colors": 1000, "dither": "none"}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }
    yield api, ("colors", "256")
    loader = {"class_type": "VAELoader", "inputs": {"vae_name": "nowhere.safetensors"}}
    encode = {"class_type": "VAEEncode", "inputs": {"pixels": ["1", 0], "vae": ["4", 0]}}
    decode = {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["4", 0]}}
    shown = {"class_type": "PreviewImage", "inputs": {"images": ["6", 0]}}
    yield {"1": api["1"], "3": shown, "4": loader, "5": encode, "6": decode}, ("nowhere.safetensors", "vae_name")


def test_byoc_runs_it_on_the_streams_of_an_orchestrator(checkout: Path, python: str) -> None:
    flags = ("--host", "127.0.0.1", "--port", "0", "--width", "128", "--height", "96", "--log-level", "info")
    with program(python, checkout, "byoc", *flags, "--workflow", str(WORKFLOW)) as worker:
        _until_idle(worker)
        _stream_through(worker.port)


def _until_idle(worker: Program) -> None:
    """All node classes of the checkout are loaded."""
    never, began = threading.Event(), time.monotonic()
    while json.loads(worker.ask("/health")[1])["status"] != "IDLE":
        assert time.monotonic() - began < READY_S, worker.said
        never.wait(0.2)


@on_loop
async def _stream_through(port: int) -> None:
    async with orchestrator() as channels:
        body = channels.stream()
        async with aiohttp.ClientSession() as session, listening(body["publish_url"]) as out:
            async with session.post(f"http://127.0.0.1:{port}/stream/start", json=body) as response:
                assert response.status == 200, await response.text()
            async with camera(body["subscribe_url"], value=40, size=(128, 96)):
                await until(lambda: out.segments and max(play(out.segments[-1]).luma) > 180, "the negative")
                assert play(out.segments[-1]).size == (128, 96)
