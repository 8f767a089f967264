"""The examples that need a worker, in the order of their page, beside one started as docs/operators.md says."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from doc_blocks import Block, blocks_of
from fake_registry import REGISTER, SECRET, UNREGISTER, Registry, registry
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [
    page
    for page in sorted((REPOSITORY / "docs").glob("*.md"))
    if any(b.mark == "with a worker" for b in blocks_of(page))
]
WORKER = "127.0.0.1:8000"
DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def orchestrator() -> Iterator[Registry]:
    """Something to register with, on a thread."""
    loop = asyncio.new_event_loop()
    ready, ended = threading.Event(), asyncio.Event()
    made: list[Registry] = []

    async def serve() -> None:
        async with registry() as one:
            made.append(one)
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(DEADLINE_S)
    yield made[0]
    loop.call_soon_threadsafe(ended.set)
    thread.join(DEADLINE_S)


def start_command() -> list[str]:
    """The flags of the page's own command."""
    texts = [block.text for block in blocks_of(REPOSITORY / "docs/operators.md") if "comfystream byoc" in block.text]
    line = next(line for line in texts[0].splitlines() if line.startswith("comfystream byoc"))
    return shlex.split(line)[1:]


@pytest.fixture(scope="module")
def worker(orchestrator: Registry) -> Iterator[str]:
    """Host and port of a worker that has registered."""
    code = "from comfystream_server.cli import main; raise SystemExit(main())"
    here = ["--host", "127.0.0.1", "--port", "0", "--capacity", "2"]
    command = [sys.executable, "-P", "-c", code, *start_command(), *here]
    environ = {**os.environ, "ORCH_URL": orchestrator.url, "ORCH_SECRET": SECRET, "CAPABILITY_URL": "http://w:8000"}
    environ["CAPABILITY_CAPACITY"] = "3"
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY, env=environ)
    assert process.stderr is not None
    said: list[str] = []
    try:
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"listens on (127.0.0.1:\d+)", line):
                break
        else:
            raise AssertionError("".join(said))
        threading.Thread(target=lambda: said.extend(process.stderr or ()), daemon=True).start()
        names = {"edges", "negative"}
        deadline = threading.Event()
        for _ in range(600):
            if {body["name"] for body in orchestrator.bodies(REGISTER)} >= names:
                break
            deadline.wait(0.1)
        assert {body["name"]: body["url"] for body in orchestrator.bodies(REGISTER)} == {
            name: f"http://w:8000/capability/{name}" for name in names
        }
        assert {body["capacity"] for body in orchestrator.bodies(REGISTER)} == {3}, "one more than it takes streams"
        yield found[1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
        assert {body for path, _, body in orchestrator.asked if path == UNREGISTER} == names
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples(page: Path, worker: str, tmp_path: Path) -> None:
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "photo.png")
    blocks = blocks_of(page)
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block.mark == "with a worker":
            said = run(block, worker, tmp_path)
            assert following is not None
            assert following.kind == "text", f"{block.place}: say what it prints"
            pattern = re.escape(following.text.strip()).replace(re.escape("..."), ".*")
            assert re.fullmatch(pattern, said.strip(), re.DOTALL), f"{block.place} said:\n{said}"


def run(block: Block, worker: str, folder: Path) -> str:
    text = block.text.replace(WORKER, worker)
    command = [sys.executable, "-c", text] if block.kind == "python" else ["bash", "-euc", text]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, f"{block.place}: {done.stderr}"
    return done.stdout
