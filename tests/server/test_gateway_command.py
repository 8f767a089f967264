"""`comfystream gateway` as a command: what it prints, what it refuses, how it ends."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

Start = Callable[..., "subprocess.Popen[str]"]


def printed(process: subprocess.Popen[str]) -> dict[str, str]:
    """The lines that name something."""
    assert process.stdout is not None
    found: dict[str, str] = {}
    for line in process.stdout:
        if match := re.match(r"\s+(\w+):\s+(.*)", line):
            found[match[1]] = match[2].strip()
        if "Worker" in found:
            break
    return found


@pytest.mark.parametrize(
    ("flags", "secret"),
    [((), "development"), (("--secret", "mine"), "..."), (("--host", "0.0.0.0"), r"[\w-]{32}")],
)
def test_it_prints_the_page_and_the_workers_command_and_ends_on_sigterm(
    start: Start, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], secret: str
) -> None:
    monkeypatch.delenv("ORCH_SECRET", raising=False)
    process = start("gateway", "--port", 0, *flags)
    try:
        said = printed(process)
        url = re.escape(said["Page"].rstrip("/"))
        assert re.fullmatch(rf"ORCH_URL={url} ORCH_SECRET={secret} comfystream byoc", said["Worker"]), said
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--public-url", "live.example"), "http:// or https://"),
        (("--media-ports", "abc"), "port"),
        (("--port", "99999"), "--port"),
        (("--host", "203.0.113.7", "--port", "0", "--secret", "x"), "cannot listen on 203.0.113.7"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_line(comfystream: Any, flags: tuple[str, ...], words: str) -> None:
    ended = comfystream("gateway", *flags)
    assert (ended.code, len(ended.errors)) == (2, 1)
    assert words in ended.errors[0]


def test_it_takes_rtmp_where_the_port_is_free_and_says_where(start: Start, comfystream: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = comfystream("gateway", "--port", "0", "--rtmp-port", port)
        assert (ended.code, f"cannot listen for RTMP on 127.0.0.1:{port}" in ended.errors[-1]) == (2, True)
    for wanted, is_said in ((port, True), (0, False)):
        process = start("gateway", "--port", 0, "--rtmp-port", wanted)
        try:
            said = printed(process)
            assert ("OBS" in said) is is_said
            assert not is_said or said["OBS"].startswith(f"rtmp://localhost:{port}/live/NAME?capability=")
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
