"""pytrickle on our server and with our ends, on an aiohttp that sends headers at once and on one that waits."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import peer_env
import pytest
from on_loop import on_loop, until

from comfystream.trickle.reader import TrickleReader
from comfystream.trickle.server import TrickleOptions, TrickleServer
from comfystream.trickle.writer import TrickleWriter

PROGRAM = Path(peer_env.__file__).with_name("peer_pytrickle.py")
pytestmark = [pytest.mark.peers, pytest.mark.slow, pytest.mark.timeout(700)]


@pytest.fixture(scope="module", params=["3.11.18", "3.13.2"], ids=lambda version: f"aiohttp-{version}")
def pytrickle(request: pytest.FixtureRequest) -> Path:
    """The Python of its environment."""
    return peer_env.pytrickle_python(request.param)


async def start(python: Path, *words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        str(python), "-P", str(PROGRAM), *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def text_of(number: int) -> str:
    return "".join(f"{number}.{part} " for part in range(3))


@on_loop
async def test_we_read_what_pytrickle_publishes(pytrickle: Path) -> None:
    server = TrickleServer(TrickleOptions(auto_create=True))
    server.create("ch", "text/plain")
    async with server.serving() as base, TrickleReader(f"{base}/ch", start=0) as reader:
        process = await start(pytrickle, "publish", f"{base}/ch", "5")
        found = []
        for _ in range(5):
            segment = await reader.next()
            assert segment is not None
            found.append((segment.number, (await segment.read()).decode()))
        _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        assert found == [(number, text_of(number)) for number in range(5)]


@on_loop
async def test_pytrickle_reads_what_we_write(pytrickle: Path) -> None:
    server = TrickleServer()
    channel = server.create("ch", "text/plain")
    async with server.serving() as base, TrickleWriter(f"{base}/ch", content_type="text/plain") as writer:
        process = await start(pytrickle, "subscribe", f"{base}/ch", "6")
        assert process.stdout is not None
        assert (await process.stdout.readline()).strip() == b"ready"
        await until(lambda: channel.held(0), "its first request")
        for number in range(5):
            async with await writer.segment() as segment:
                for part in range(3):
                    await segment.write(f"{number}.{part} ".encode())
            assert json.loads(await process.stdout.readline()) == [number, text_of(number)]
        server.close("ch")
        assert json.loads(await process.stdout.readline()) is None, "the end of the channel"
        _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
