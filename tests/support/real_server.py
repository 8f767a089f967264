"""`comfystream serve` as a process of its own, for tests."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import psutil

PROGRAM = [sys.executable, "-P", "-c", "import sys; from comfystream_server.cli import main; sys.exit(main())", "serve"]


class Server:
    """The program, what it has said so far, and the address that it printed."""

    def __init__(self, *arguments: str, **environ: str) -> None:
        self.process = subprocess.Popen(
            [*PROGRAM, "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "COMFYSTREAM_ICE_LOOPBACK": "true", **environ},
        )
        self.lines: list[str] = []
        self._has_address = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._has_address.wait(60), self.text
        self.address = re.search(r"(https?://[^/\s]+)", self.text)[1]

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if "://" in line:
                self._has_address.set()

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def ended(self, within_s: float = 40) -> int:
        code = self.process.wait(within_s)
        self._reader.join(10)
        return code

    def health(self) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@contextlib.contextmanager
def server(*arguments: str, **environ: str) -> Iterator[Server]:
    made = Server(*arguments, **environ)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
        made.process.wait()
