"""`comfystream byoc` as a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from fake_registry import REGISTER, SECRET, UNREGISTER, registry
from on_loop import on_loop, until
from worker_harness import camera, listening, orchestrator, play

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.mark.slow
@on_loop
async def test_62_it_registers_serves_and_leaves_the_list_on_sigterm(start: Start, repository: Path) -> None:
    invert = repository / "workflows" / "invert.json"
    async with registry() as orch, orchestrator() as channels:
        secrets = {"ORCH_SECRET": SECRET, "CAPABILITY_TOKEN": "t0ken-of-the-worker"}
        environ = {**os.environ, **secrets, "ORCH_URL": orch.url, "CAPABILITY_URL": "http://127.0.0.1:9"}
        flags = ("--host", "127.0.0.1", "--port", 0, "--width", 64, "--height", 48, "--log-level", "info")
        process = start("byoc", *flags, "--capability", f"negative={invert}", env=environ)
        try:
            assert process.stderr is not None
            port = 0
            while not port:
                line = process.stderr.readline()
                assert line, "it ended"
                found = re.search(r"listens on 127.0.0.1:(\d+)", line)
                port = int(found[1]) if found else 0
            await until(lambda: orch.bodies(REGISTER), "the registration")
            said = orch.bodies(REGISTER)[0]
            assert (said["name"], said["url"]) == ("negative", "http://127.0.0.1:9")
            assert said["token"] == secrets["CAPABILITY_TOKEN"]
            body = channels.stream()
            headers = {"Authorization": "Bearer t0ken-of-the-worker"}
            async with aiohttp.ClientSession(headers=headers) as session:
                url = f"http://127.0.0.1:{port}/stream/start"
                async with session.post(url, json=body) as response:
                    assert response.status == 200, await response.text()
                async with listening(body["publish_url"]) as out, camera(body["subscribe_url"], value=40):
                    await until(lambda: out.segments and max(play(out.segments[-1]).luma) > 180, "the negative")
            for child in psutil.Process(process.pid).children(recursive=True):
                assert not set(secrets.values()) & set(child.environ().values())
            process.send_signal(signal.SIGTERM)
            await until(lambda: process.poll() is not None, "its end")
            assert process.returncode == 0
            assert orch.asked[-1] == (UNREGISTER, SECRET, "negative")
            rest = process.stderr.read()
            assert not [secret for secret in secrets.values() if secret in rest]
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--capability", "depth"), "NAME=FILE is needed"),
        (("--capability", "depth=none.json"), "no such file"),
        (("--workflow", "none.json"), "no such file"),
        (("--width", "0"), "--width and --height"),
        (("--on-error", "explode"), "on_error"),
        (("--capacity", "-1"), "capacity"),
        (("--capacity", "0"), "capacity"),
        (("--workflows", "nowhere"), "no such folder"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_line(comfystream: Any, flags: tuple[str, ...], words: str) -> None:
    ended = comfystream("byoc", *flags)
    assert (ended.code, len(ended.errors)) == (2, 1)
    assert words in ended.errors[0]

