"""One `comfystream serve` beside ComfyUI: started, watched, ended; why it ended is told with its last lines.

Plain threads and `subprocess`: asyncio's processes do not work on every event loop that ComfyUI runs on.
"""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from comfystream.errors import ConfigError
from comfystream.logs import redacted

from . import command
from .settings import Settings

__all__ = ["State", "Supervisor"]

_log = logging.getLogger("comfystream.server")
READY_S = 60.0
END_S = 8.0
KEPT_LINES = 400
_ADDRESS = re.compile(r"ComfyStream:\s+https?://\S+:(\d+)")
_TOKEN = re.compile(r"#token=\S+")


class State(StrEnum):
    """Of the server process."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class _Run:
    """One process, with what it was started with."""

    process: subprocess.Popen[bytes]
    host: str
    port: int
    token: str
    ready: threading.Event
    ended: threading.Event


class Supervisor:
    """At most one process at a time. Methods may be called on any thread and wait as long as they say.

    Args:
        notify: called on some thread whenever the state has changed.
    """

    def __init__(self, notify: Callable[[], None] = lambda: None) -> None:
        self._notify = notify
        self._orders = threading.Lock()  # one start or stop at a time
        self._lock = threading.Lock()
        self._state = State.STOPPED
        self._reason = ""
        self._exit_code: int | None = None
        self._run: _Run | None = None
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)

    @property
    def state(self) -> State:
        """Now."""
        return self._state

    @property
    def address(self) -> tuple[str, int, str] | None:
        """Host to call, port and token of the running server; None while there is none."""
        run = self._run
        if run is None or self._state is not State.RUNNING:
            return None
        return _callable_host(run.host), run.port, run.token

    def lines(self, most: int = KEPT_LINES) -> list[str]:
        """The last lines that the process wrote, without secrets."""
        return list(self._lines)[-most:] if most > 0 else []

    def status(self) -> dict[str, Any]:
        """For the page; the first five keys are those that existing clients know."""
        with self._lock:
            run, state = self._run, self._state
            told: dict[str, Any] = {
                "running": state is State.RUNNING,
                "port": run.port if run else None,
                "host": run.host if run else None,
                "pid": run.process.pid if run else None,
                "type": "local",
                "state": str(state),
                "reason": self._reason,
                "exit_code": self._exit_code,
            }
        if state is State.FAILED:
            told["lines"] = self.lines(20)
        return told

    def start(self, settings: Settings, comfyui: Path | None) -> None:
        """Start it and wait until it listens; one that runs stays as it is.

        Raises:
            ConfigError: it cannot be started, or ended at once; the words say why.
        """
        with self._orders:
            if self._state is State.RUNNING:
                return
            try:
                run = self._launch(settings, comfyui)
            except (ConfigError, OSError) as error:
                self._change(State.FAILED, str(error))
                raise ConfigError(str(error), code="not_started") from error
            if not run.ready.wait(READY_S):
                self._end(run, State.FAILED, f"it did not listen within {READY_S:.0f} s")
            if self._state is not State.RUNNING:
                raise ConfigError(f"the server did not start: {self._reason}", code="not_started")

    def _launch(self, settings: Settings, comfyui: Path | None) -> _Run:
        if missing := command.missing_libraries():
            hint = "run install.py in ComfyStream's folder with the Python of ComfyUI"
            raise ConfigError(f"this Python lacks {', '.join(missing)}", code="missing_libraries", hint=hint)
        port = command.free_port(settings.host, settings.port)
        token = settings.token or secrets.token_urlsafe(24)
        words = [*command.boot(comfyui), *command.arguments(settings, port, comfyui)]
        self._lines.clear()
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=command.environment(settings, token),
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        run = _Run(process, settings.host, port, token, threading.Event(), threading.Event())
        with self._lock:
            self._run, self._exit_code = run, None
        self._change(State.STARTING)
        threading.Thread(target=self._watch, args=(run,), name="comfystream-server", daemon=True).start()
        return run

    def _watch(self, run: _Run) -> None:
        """Read what it writes until it ends; then say how it ended."""
        assert run.process.stdout is not None
        for raw in run.process.stdout:
            line = redacted(_TOKEN.sub("", raw.decode(errors="replace").rstrip()))
            if not line:
                continue
            self._lines.append(line)
            _log.info("%s", line)
            if not run.ready.is_set() and (found := _ADDRESS.search(line)) and int(found[1]) == run.port:
                self._change(State.RUNNING, only_from=State.STARTING)
                run.ready.set()
        code = run.process.wait()
        self._ended(run, code)
        run.ended.set()
        run.ready.set()

    def _ended(self, run: _Run, code: int) -> None:
        with self._lock:
            if self._run is not run:
                return
            self._run, self._exit_code = None, code
            is_wanted = self._state is State.STOPPING
        if is_wanted:
            self._change(State.STOPPED)
        else:
            self._change(State.FAILED, f"{_ending(code)}: {self._last_words()}")

    def _last_words(self) -> str:
        lines = self.lines()
        errors = [line for line in lines if "error" in line.lower()]
        return (errors or lines or ["it wrote nothing"])[-1][:300]

    def stop(self) -> None:
        """End it and wait for that; killed if it takes longer than `END_S`."""
        with self._orders:
            run = self._run
            if run is not None:
                self._end(run, State.STOPPED, "")
            else:
                self._change(State.STOPPED)

    def _end(self, run: _Run, after: State, reason: str) -> None:
        self._change(State.STOPPING)
        if run.process.stdin is not None:
            with contextlib.suppress(OSError):
                run.process.stdin.close()
        if not run.ended.wait(END_S):
            run.process.kill()
            run.ended.wait(END_S)
        self._change(after, reason)

    def close(self) -> None:
        """ComfyUI ends."""
        self._notify = lambda: None
        self.stop()

    def _change(self, state: State, reason: str = "", only_from: State | None = None) -> None:
        with self._lock:
            if only_from is not None and self._state is not only_from:
                return
            self._state, self._reason = state, reason
        self._notify()


def _callable_host(host: str) -> str:
    """What to call on this machine a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"
