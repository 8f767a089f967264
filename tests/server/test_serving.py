"""The life of the real process: it drains and ends, leaves no engine behind, and says why it does not start."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import ssl
import subprocess
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription
from app_harness import Grey
from on_loop import on_loop, until
from real_server import PROGRAM, Server, server

SECRET = "a-token-that-nobody-may-read"


@contextlib.asynccontextmanager
async def viewer(made: Server) -> AsyncIterator[tuple[RTCPeerConnection, list[dict[str, Any]]]]:
    """A viewer without a workflow, and the notices that it gets."""
    said: list[dict[str, Any]] = []
    pc = RTCPeerConnection()
    pc.addTrack(Grey())
    channel = pc.createDataChannel("comfystream")
    channel.on("message", lambda text: said.append(json.loads(text)))
    channel.on("open", lambda: channel.send('{"type": "describe"}'))
    await pc.setLocalDescription(await pc.createOffer())
    async with aiohttp.ClientSession() as client:
        status, answer = await offered(client, made, pc.localDescription.sdp)
        assert status == 200, answer
    await pc.setRemoteDescription(RTCSessionDescription(answer["sdp"], answer["type"]))
    await until(lambda: [one for one in said if "info" in one], "the reply")  # events may come before it
    try:
        yield pc, said
    finally:
        await pc.close()


async def offered(client: aiohttp.ClientSession, made: Server, sdp: str) -> tuple[int, dict[str, Any]]:
    async with client.post(f"{made.address}/offer", json={"offer": {"sdp": sdp, "type": "offer"}}) as response:
        answer = await response.json()
        if response.status == 503:
            assert int(response.headers["Retry-After"]) >= 1
        return response.status, answer


def gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=20)[1]


@on_loop
async def test_viewers_are_told_and_may_leave_and_new_ones_are_refused() -> None:
    with server("--drain-s", "50") as made:
        async with viewer(made) as (pc, said):
            await until(lambda: made.children, "the engine process")
            engine = made.children
            made.signal()
            shutdown = await until(lambda: [one for one in said if one.get("event") == "shutdown"], "the notice")
            assert shutdown[0]["data"] == {"seconds": 50.0}
            assert await asyncio.to_thread(made.health) == (503, "DRAINING")
            async with aiohttp.ClientSession() as client:
                status, answer = await offered(client, made, pc.localDescription.sdp)
            assert (status, answer["error"]["code"]) == (503, "draining")
            assert pc.connectionState == "connected"
        assert await asyncio.to_thread(made.ended) == 0  # the last one has left: nobody is waited for
        assert gone(engine)
        assert "Traceback" not in made.text


@on_loop
async def test_a_second_signal_ends_at_once() -> None:
    with server("--drain-s", "3600") as made:
        async with viewer(made) as (_, said):
            await until(lambda: made.children, "the engine process")
            engine = made.children
            made.signal(signal.SIGINT)
            await until(lambda: [one for one in said if one.get("event") == "shutdown"], "the notice")
            made.signal(signal.SIGINT)
            assert await asyncio.to_thread(made.ended) == 0
        assert gone(engine)
        assert "ending at once" in made.text
        assert "Traceback" not in made.text


@on_loop
async def test_without_time_to_leave_it_ends_at_once() -> None:
    with server("--drain-s", "0") as made:
        async with viewer(made):
            made.signal()
            assert await asyncio.to_thread(made.ended) == 0
        assert "Traceback" not in made.text


@on_loop
async def test_it_ends_while_the_engine_is_still_loading() -> None:
    with server() as made:
        await until(lambda: made.children, "the engine process")
        engine = made.children
        made.signal()
        assert await asyncio.to_thread(made.ended) == 0
        assert gone(engine)
        # nothing about an engine that did not start; on a slow machine it may have been ready a moment before
        after = made.lines[made.lines.index("comfystream: ending") + 1 :]
        assert all("the engine is ready" in line for line in after), after


@on_loop
async def test_the_log_is_json_names_the_session_and_holds_no_secret() -> None:
    turn = f'[{{"urls": ["turn:127.0.0.1:9?transport=tcp"], "username": "u", "credential": "{SECRET}"}}]'
    secrets = {"COMFYSTREAM_ICE_SERVERS": turn, "COMFYSTREAM_VIEWER_TOKEN": SECRET}
    with server("--log-format", "json", "--log-level", "debug", "--drain-s", "0", **secrets) as made:
        async with viewer(made) as (_, said):
            session = next(one["info"]["session"] for one in said if "info" in one)
        async with aiohttp.ClientSession() as client:
            await client.get(f"{made.address}/metrics", headers={"Authorization": f"Bearer {SECRET}"})
            await client.get(f"{made.address}/api/v1/sessions?token={SECRET}")
            await client.post(f"{made.address}/offer", data=f"token={SECRET}")
        await until(lambda: "node classes" in made.text, "the engine")
        made.signal()
        assert await asyncio.to_thread(made.ended) == 0
    told = [json.loads(line) for line in made.lines if line.startswith("{")]
    about = [one["message"] for one in told if one.get("session") == session]
    assert any("viewer 1 is connected" in message for message in about), about
    assert any("the session ends" in message for message in about), about
    assert {"time", "level", "logger", "message"} <= set(told[0])
    assert SECRET not in made.text


def test_https_by_flag(tmp_path: Path) -> None:
    with server("--tls", "self-signed", "--drain-s", "0", XDG_STATE_HOME=str(tmp_path)) as made:
        assert made.address.startswith("https://localhost:")
        (pem,) = tmp_path.rglob("*.pem")
        trusting = ssl.create_default_context(cafile=str(pem))
        with urllib.request.urlopen(f"{made.address}/health", timeout=10, context=trusting) as answer:
            assert answer.read() == b"OK"
        made.signal()
        assert made.ended() == 0
    assert re.search(r"([0-9A-F]{2}:){31}[0-9A-F]{2}", made.text)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tls-cert", "nowhere.pem", "--tls-key", "nowhere.key"], "tls_cert nowhere.pem: No such file"),
        (["--tls", "yes"], "tls"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: No such file or directory"),
        (["--config", "."], "Is a directory"),
        (["--log-format", "xml"], "log_format"),
        (["--drain-s", "-1"], "drain_s"),
        (["--host", "203.0.113.77"], "cannot listen on 203.0.113.77:8889"),
    ],
)
def test_what_keeps_it_from_starting_is_one_line(arguments: list[str], words: str, tmp_path: Path) -> None:
    done = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert words in line


def test_a_full_disk_for_the_log_stops_nothing() -> None:
    """/dev/full takes nothing: what is printed there is lost, the server goes on."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no /dev/full here")
    with full.open("w") as log, subprocess.Popen(
        [*PROGRAM, "--port", "0", "--log-level", "debug"], stdout=subprocess.PIPE, stderr=log, text=True
    ) as process:
        try:
            assert process.stdout is not None
            address = next(found[0] for line in process.stdout if (found := re.search(r"http://\S+", line)))
            assert urllib.request.urlopen(f"{address}health", timeout=10).read() == b"OK"
            process.terminate()
            assert process.wait(40) == 0
        finally:
            process.kill()
