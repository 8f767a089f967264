"""Starting, watching and ending the engine process."""

from __future__ import annotations

import itertools
import logging
import pickle
import secrets
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import ClassVar

from comfystream import logs
from comfystream.engine.protocol import EngineOptions
from comfystream.engine.wire import Ready, Reply, Wire
from comfystream.errors import EngineDied

__all__ = ["ChildProcess"]

START_S = 180.0
KEPT_LINES = 400  # a fault handler's report of all threads is long
_BOOT = "import sys; sys.path[:] = {path!r}; from comfystream.engine.child_main import main; main()"


class ChildProcess:
    """One engine process. `wire` is ready for calls once the constructor returns.

    Raises:
        ComfyStreamError: why it could not load what it was told to.
        EngineDied: it ended, or did not answer in time, while it was loading; the message has its last lines.
    """

    _all: ClassVar[weakref.WeakSet[ChildProcess]] = weakref.WeakSet()

    def __init__(self, options: EngineOptions) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="comfystream-") if sys.platform != "win32" else None
        address = self._address()
        key = secrets.token_bytes(16)
        self.last_lines: deque[str] = deque(maxlen=KEPT_LINES)
        with Listener(address, authkey=key) as listener:
            self._process = self._start(address, key, options)
            self._all.add(self)
            self._log_thread = threading.Thread(target=self._relay_log, name="engine-log", daemon=True)
            self._log_thread.start()
            self.wire = Wire(self._accept(listener))
        self._await_ready()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def _address(self) -> str:
        if self._folder is None:
            return rf"\\.\pipe\comfystream-{secrets.token_hex(8)}"
        return str(Path(self._folder.name) / "wire")

    def _start(self, address: str, key: bytes, options: EngineOptions) -> subprocess.Popen[bytes]:
        code = _BOOT.format(path=[p for p in sys.path if p])
        process = subprocess.Popen(
            [sys.executable, "-P", "-u", "-X", "utf8", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdin is not None
        level = logging.getLevelName(logging.getLogger().getEffectiveLevel())
        process.stdin.write(pickle.dumps((address, key, options, level)))
        process.stdin.close()
        return process

    def _accept(self, listener: Listener) -> Connection:
        """The child's connection, or EngineDied if it ends first."""
        accepted: list[Connection] = []
        waiter = threading.Thread(target=lambda: accepted.append(listener.accept()), daemon=True)
        waiter.start()
        for _ in range(int(START_S * 10)):
            waiter.join(0.1)
            if accepted:
                return accepted[0]
            if self._process.poll() is not None:
                break
        raise EngineDied(f"the engine process did not start: {self.describe_end()}", hint=self._tail())

    def _await_ready(self) -> None:
        try:
            message = self.wire.receive()
        except (EOFError, OSError) as error:
            self._process.wait(10)
            raise EngineDied(
                f"the engine process ended while loading: {self.describe_end()}", hint=self._tail()
            ) from error
        if isinstance(message, Reply) and message.error is not None:
            raise message.error
        assert isinstance(message, Ready)

    def _relay_log(self) -> None:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            line = raw.decode(errors="replace").rstrip()
            record = logs.from_child(line, self._process.pid)
            self.last_lines.append(record.getMessage())
            forwarded = logging.getLogger(record.name)
            if forwarded.isEnabledFor(record.levelno):
                forwarded.handle(record)

    def describe_end(self) -> str:
        """How the process ended, in words; with the node code that crashed it, if Python could tell."""
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return "it is still running"
        self._log_thread.join(2)
        words = f"exit code {code}" if code >= 0 else f"killed by {_signal_name(-code)}"
        place = _crash_place(list(self.last_lines))
        return f"{words} in {place}" if place and code < 0 else words

    def _tail(self) -> str:
        return self.last_lines[-1] if self.last_lines else ""

    @classmethod
    def kill_all(cls) -> None:
        """Kill every engine process of this one: for who leaves without ending them in order."""
        for process in list(cls._all):
            process._process.kill()

    def end(self, timeout_s: float = 5.0) -> None:
        """Close the wire, which ends the child; kill it if it does not go. Idempotent."""
        self.wire.close()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._folder is not None:
            self._folder.cleanup()


def _crash_place(lines: Sequence[str]) -> str:
    """Where the crashing thread was, from what Python's fault handler wrote; empty when it wrote nothing."""
    crashed = itertools.dropwhile(lambda line: not line.startswith("Current thread"), lines)
    files = [line.strip() for line in crashed if line.strip().startswith("File ")]
    library = sysconfig.get_path("stdlib")
    return next((line for line in files if library not in line), files[0] if files else "")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
