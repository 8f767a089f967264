"""One `comfystream serve` beside ComfyUI: started, watched, ended; why it ended is told with its last lines.

One that dies by itself is started again, after longer and longer waits, a few times in a row.

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
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from comfystream.errors import ConfigError
from comfystream.logs import redacted

from . import command
from .settings import Settings
from .surroundings import Surroundings

__all__ = ["State", "Supervisor"]

_log = logging.getLogger("comfystream.server")
READY_S = 60.0
END_S = 8.0
KEPT_LINES = 400
SHOWN_LINES = 20
PORT_TRIES = 4
RESTART_AFTER_S = (1.0, 3.0, 9.0)
STEADY_S = 60.0  # one that ran for so long has not died of what its predecessor died of
_ADDRESS = re.compile(r"ComfyStream:\s+https?://\S+:(\d+)")
_SERIOUS = re.compile(r"\b(?:ERROR|CRITICAL)\b|\berror: |^[\w.]*(?:Error|Exception)\b|^Fatal ")
_TOKEN = re.compile(r"#token=\S+")


class State(StrEnum):
    """Of the server process."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    RESTARTING = "restarting"  # it died, and is started again after a wait
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class _Run:
    """One process, with what it was started with."""

    process: subprocess.Popen[bytes]
    settings: Settings
    comfyui: Surroundings | None
    port: int
    token: str
    began: float  # time.monotonic()
    ready: threading.Event
    ended: threading.Event

    @property
    def host(self) -> str:
        return self.settings.host


class Supervisor:
    """At most one process at a time. Methods may be called on any thread and wait as long as they say.

    Args:
        notify: called on some thread whenever the state has changed.
        waits: seconds before each of the restarts in a row, which are not more than these.
    """

    def __init__(self, notify: Callable[[], None] = lambda: None, waits: Sequence[float] = RESTART_AFTER_S) -> None:
        self._notify = notify
        self._waits = waits
        self._orders = threading.Lock()  # one start or stop at a time
        self._lock = threading.Lock()
        self._state = State.STOPPED
        self._reason = ""
        self._exit_code: int | None = None
        self._last_end: dict[str, Any] | None = None
        self._restarts = 0  # in a row
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
                "restarts": self._restarts,
                "last_end": self._last_end,
            }
        if state in (State.FAILED, State.RESTARTING):
            told["lines"] = self.lines(SHOWN_LINES)
        return told

    def start(self, settings: Settings, comfyui: Surroundings | None) -> None:
        """Start it and wait until it listens; one that runs stays as it is.

        Raises:
            ConfigError: it cannot be started, or ended at once; the words say why.
        """
        with self._orders:
            if self._state is State.RUNNING:
                return
            self._restarts, self._last_end = 0, None
            self._bring_up(settings, comfyui)

    def _bring_up(self, settings: Settings, comfyui: Surroundings | None) -> None:
        try:
            run = self._launch(settings, comfyui, settings.port)
            for _ in range(PORT_TRIES):
                if not run.ready.wait(READY_S):
                    self._end(run, State.FAILED, f"it did not listen within {READY_S:.0f} s")
                if self._state is State.RUNNING or command.is_free(settings.host, run.port):
                    break
                run = self._launch(settings, comfyui, run.port)  # somebody was faster and has that port now
        except (ConfigError, OSError) as error:
            self._change(State.FAILED, str(error))
            raise ConfigError(str(error), code="not_started") from error
        if self._state is not State.RUNNING:
            raise ConfigError(f"the server did not start: {self._reason}", code="not_started")

    def _launch(self, settings: Settings, comfyui: Surroundings | None, first_port: int) -> _Run:
        if missing := command.missing_libraries():
            hint = "run install.py in ComfyStream's folder with the Python of ComfyUI"
            raise ConfigError(f"this Python lacks {', '.join(missing)}", code="missing_libraries", hint=hint)
        port = command.free_port(settings.host, first_port)
        token = settings.token or secrets.token_urlsafe(24)
        words = [*command.boot(comfyui), *command.arguments(settings, port, comfyui)]
        self._lines.clear()
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=command.environment(settings, token, comfyui),
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        began = time.monotonic()
        run = _Run(process, settings, comfyui, port, token, began, threading.Event(), threading.Event())
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
            state = self._state
        if state is State.STOPPING:
            self._change(State.STOPPED)
            return
        reason = ": ".join(filter(None, (_ending(code), self._last_words(code))))
        self._last_end = {"reason": reason, "exit_code": code, "lines": self.lines(SHOWN_LINES)}
        wait = self._wait_before_restart(run, has_run=state is State.RUNNING)
        if wait is None:
            self._change(State.FAILED, reason)
            return
        self._restarts += 1
        self._change(State.RESTARTING, reason)
        again = threading.Timer(wait, self._start_again, (run,))
        again.daemon = True
        again.start()

    def _wait_before_restart(self, run: _Run, *, has_run: bool) -> float | None:
        """Seconds, or None when it is not started again: not wanted, too often, or the first start did not work."""
        if has_run and time.monotonic() - run.began >= STEADY_S:
            self._restarts = 0
        is_worth_it = run.settings.restart and (has_run or self._restarts > 0)
        return self._waits[self._restarts] if is_worth_it and self._restarts < len(self._waits) else None

    def _start_again(self, dead: _Run) -> None:
        with self._orders:
            if self._state is not State.RESTARTING:  # somebody has started or stopped it meanwhile
                return
            _log.warning("the server is started again, %d of %d", self._restarts, len(self._waits))
            with contextlib.suppress(ConfigError):  # told as the state
                self._bring_up(dead.settings, dead.comfyui)

    def _last_words(self, code: int) -> str:
        """The last line that tells of an error, or simply the last; who was killed did not write why."""
        lines = self.lines()
        errors = [line for line in lines if _SERIOUS.search(line)]
        if code < 0 and not errors:
            return ""
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
    if code > 0xFFFF:  # Windows names its crashes so
        return f"exit code 0x{code:08X}"
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"
