"""The program itself: it starts, says one address, answers, and ends in order."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

PROGRAM = [sys.executable, "-P", "-c", "import sys; from comfystream_server.cli import main; sys.exit(main())", "serve"]


def _start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROGRAM, "--port", "0", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _address(output: IO[str] | None) -> str:
    assert output is not None
    for line in output:
        if found := re.search(r"http://\S+", line):
            return found[0]
    raise AssertionError("it printed no address")


@pytest.fixture
def server() -> Iterator[subprocess.Popen[str]]:
    process = _start()
    yield process
    process.kill()
    process.wait()


def test_it_answers_while_the_engine_is_still_loading_and_ends_in_order(server: subprocess.Popen[str]) -> None:
    address = _address(server.stdout)
    assert urllib.request.urlopen(f"{address}health", timeout=10).read() == b"OK"
    assert b'"edges"' in urllib.request.urlopen(f"{address}api/v1/workflows", timeout=10).read()
    server.send_signal(signal.SIGTERM)
    assert server.wait(30) == 0
    output = server.stdout.read() if server.stdout is not None else ""
    assert "Traceback" not in output
    assert "never retrieved" not in output


def test_off_loopback_the_address_holds_a_token() -> None:
    process = _start("--host", "0.0.0.0")
    try:
        assert "#token=" in _address(process.stdout)
    finally:
        process.kill()
        process.wait()


def test_a_port_that_is_taken_is_one_line(server: subprocess.Popen[str]) -> None:
    port = _address(server.stdout).rsplit(":", 1)[1].strip("/")
    done = subprocess.run([*PROGRAM, "--port", port], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_server_process_never_imports_torch(tmp_path: Path) -> None:
    script = (
        "import sys, comfystream_server.app, comfystream_server.commands.serve, comfystream.engine.child\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-P", "-c", script], cwd=tmp_path, timeout=60).returncode == 0


def test_a_wrong_setting_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("prot: 1")
    command = [*PROGRAM, "--config", str(tmp_path / "bad.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert 'did you mean "port"' in done.stderr
