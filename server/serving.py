"""The life of the server process: listen, say where, drain when told to end, end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable

from aiohttp import web

from comfystream.engine.child_process import ChildProcess
from comfystream.errors import ConfigError
from comfystream.settings import ServerSettings

from .app import parts_key, rtmp_key
from .memory import keep_tidy
from .parts import Parts
from .tls import Tls

__all__ = ["on_signals", "serve"]

CLOSE_S = 5.0
LEFT_S = 3.0  # after the second signal
LOOK_S = 0.05


class _Signals:
    """What the process was told: to end, and then to end at once."""

    def __init__(self) -> None:
        self.end = asyncio.Event()
        self.at_once = asyncio.Event()

    def listen(self) -> None:
        """From now on."""
        on_signals(self._heard)

    def _heard(self) -> None:
        if not self.end.is_set():
            self.end.set()
        elif not self.at_once.is_set():
            self.at_once.set()
            print("comfystream: ending at once", flush=True)
            asyncio.get_running_loop().call_later(LEFT_S, _leave)


def on_signals(heard: Callable[[], None]) -> None:
    """Call this on the running loop at Ctrl-C and SIGTERM."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, heard)
        except (NotImplementedError, RuntimeError):  # Windows, or not the main thread: Ctrl-C raises instead
            return


def _leave() -> None:
    """Something does not end: what is left is only to leave no process behind."""
    ChildProcess.kill_all()
    sys.stdout.flush()
    os._exit(0)


async def serve(app: web.Application, settings: ServerSettings, token: str, tls: Tls | None) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        ConfigError: it cannot listen there.
    """
    runner = web.AppRunner(app, shutdown_timeout=CLOSE_S)
    signals = _Signals()
    signals.listen()
    await runner.setup()
    try:
        await _listen(runner, settings, tls)
        if settings.rtmp_port:
            await app[rtmp_key].start(settings.host, settings.rtmp_port)
        app[parts_key].host.begin()
        _say_address(settings.host, runner.addresses[0][1], token, tls)
        if settings.rtmp_port:
            _say_rtmp(settings.host, settings.rtmp_port, token)
        tidying = asyncio.create_task(keep_tidy(app[parts_key].host), name="keep-tidy")
        await signals.end.wait()
        tidying.cancel()
        await _drain(app[parts_key], settings.drain_s, signals.at_once)
    finally:
        host = app[parts_key].host
        host.refuse()
        if host.is_starting:  # nobody will use what it loads
            ChildProcess.kill_all()
        await runner.cleanup()


async def _listen(runner: web.AppRunner, settings: ServerSettings, tls: Tls | None) -> None:
    site = web.TCPSite(runner, settings.host, settings.port, ssl_context=tls.context if tls is not None else None)
    try:
        await site.start()
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}",
            code="cannot_listen",
            hint="another program may have the port; --port 0 takes a free one",
        ) from error


async def _drain(parts: Parts, within_s: float, at_once: asyncio.Event) -> None:
    """Take no new sessions, tell the viewers, and give them time to leave."""
    parts.sessions.drain(within_s)
    viewers = sum(session.viewers for session in parts.sessions)
    wait = f"{viewers} viewers have {within_s:g} s to leave; once more ends at once" if viewers and within_s else ""
    print(f"comfystream: ending{'; ' if wait else ''}{wait}", flush=True)
    until = asyncio.get_running_loop().time() + within_s
    while not at_once.is_set() and any(session.viewers for session in parts.sessions):
        left = until - asyncio.get_running_loop().time()
        if left <= 0:
            return
        try:
            await asyncio.wait_for(at_once.wait(), min(left, LOOK_S))
        except TimeoutError:
            continue


def _say_address(host: str, port: int, token: str, tls: Tls | None) -> None:
    name, query = _name_of(host), f"/#token={token}" if token else "/"
    scheme = "https" if tls is not None else "http"
    print(f"\n  ComfyStream:  {scheme}://{name}:{port}{query}\n", flush=True)
    if tls is not None and tls.fingerprint:
        print("  The certificate signs itself; browsers ask whether to go on. Its SHA-256 fingerprint:", flush=True)
        print(f"  {tls.fingerprint}\n", flush=True)
    if token:
        print("  Whoever has this address may do everything. Programs send: Authorization: Bearer TOKEN\n", flush=True)


def _say_rtmp(host: str, port: int, token: str) -> None:
    query = f"?token={token}" if token else ""
    print(f"  OBS and others by RTMP:  rtmp://{_name_of(host)}:{port}/live/NAME{query}\n", flush=True)


def _name_of(host: str) -> str:
    """How a browser on this machine calls it."""
    name = "localhost" if host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::") else host
    return f"[{name}]" if ":" in name else name
