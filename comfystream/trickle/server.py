"""A trickle server: channels by name, and the web application that serves them. Runs alone or mounted in another."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from comfystream.errors import BusyError, NetworkError

from .channel import Channel

__all__ = ["CHANGES", "TRICKLE", "ChannelRefused", "TrickleOptions", "TrickleServer", "make_trickle_app"]

CHANGES = "_changes"
DEFAULT_PORT = 2939
Hook = Callable[[str], Awaitable[None] | None]

_log = logging.getLogger(__name__)


class ChannelRefused(NetworkError):
    """What a hook raises to refuse a request; the client gets `status` and the message."""

    default_code = "channel_refused"

    def __init__(self, message: str, *, status: int = 403) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class TrickleOptions:
    """How a server behaves; the defaults are those of the orchestrators in the field.

    Attributes:
        auto_create: clients may create channels, by POST or by writing to them.
        changefeed: channel `_changes` tells which channels come and go.
        window: segments that are kept per channel.
        idle_s: a channel that got no bytes for so long is removed; names that start with `_` stay.
        sweep_s: how often that is looked at.
        keep_alive_s: how often a publisher that has sent nothing yet is told to go on (100 Continue). Older clients
            written in Go give up after six of them in a minute: not faster than 10.
        grace_s: how long a segment that lost its publisher stays open for another connection.
        gone_check_s: how often a waiting reader is looked after: one that hung up is let go.
        most_channels: more are refused with 503.
        most_segment_bytes: a longer segment is cut with 413.
        before_create, before_delete: called with the channel's name before a client's request does so; may be
            async, and raise `ChannelRefused`.
        clock: monotonic seconds.
    """

    auto_create: bool = False
    changefeed: bool = False
    window: int = 5
    idle_s: float = 300.0
    sweep_s: float = 60.0
    keep_alive_s: float = 10.0
    grace_s: float = 2.0
    gone_check_s: float = 1.0
    most_channels: int = 1000
    most_segment_bytes: int = 512 * 1024 * 1024
    before_create: Hook | None = None
    before_delete: Hook | None = None
    clock: Callable[[], float] = field(default=time.monotonic)


class TrickleServer:
    """The channels of a server; made and used on one event loop.

    Code in the same process works on `Channel` objects directly: `create`, `get`, `Channel.publish`, `subscribe`.
    """

    def __init__(self, options: TrickleOptions | None = None) -> None:
        self.options = options or TrickleOptions()
        self._channels: dict[str, Channel] = {}
        if self.options.changefeed:
            self.create(CHANGES, "application/json")

    @property
    def names(self) -> list[str]:
        """The channels that are open."""
        return sorted(self._channels)

    def get(self, name: str) -> Channel | None:
        """The channel of that name, if there is one."""
        return self._channels.get(name)

    def create(self, name: str, mime: str = "") -> Channel:
        """The channel of that name; made if there is none. The type of the first creation stays.

        Raises:
            BusyError: `too_many_channels`.
        """
        known = self._channels.get(name)
        if known is not None:
            return known
        if len(self._channels) >= self.options.most_channels:
            raise BusyError(f"there are {len(self._channels)} channels already", code="too_many_channels")
        options = self.options
        channel = Channel(name, mime, window=options.window, grace_s=options.grace_s, clock=options.clock)
        self._channels[name] = channel
        self._tell("added", name)
        return channel

    def close(self, name: str) -> bool:
        """End a channel and forget its name; False when there is none."""
        channel = self._channels.pop(name, None)
        if channel is None:
            return False
        channel.close()
        self._tell("removed", name)
        return True

    def close_all(self) -> None:
        """End every channel."""
        for name in self.names:
            self.close(name)

    def sweep(self) -> list[str]:
        """Remove the channels that nobody wrote to for long.

        Returns:
            Their names.
        """
        oldest = self.options.clock() - self.options.idle_s
        idle = [name for name, it in self._channels.items() if it.used_at < oldest and not name.startswith("_")]
        for name in idle:
            _log.info('channel "%s" was idle for %.0f s and is removed', name, self.options.idle_s)
            self.close(name)
        return idle

    def _tell(self, what: str, name: str) -> None:
        feed = self._channels.get(CHANGES)
        if self.options.changefeed and feed is not None:
            feed.publish(json.dumps({what: [name]}).encode())

    async def ask(self, hook: Hook | None, name: str) -> None:
        """Let a hook refuse."""
        answer = hook(name) if hook is not None else None
        if inspect.isawaitable(answer):
            await answer

    # --- serving

    def app(self) -> web.Application:
        """A web application that serves the channels below its root; mount it with `add_subapp` for a base path."""
        from .routes import Routes

        app = web.Application()
        app[TRICKLE] = self
        Routes(self).add_to(app.router)
        app.cleanup_ctx.append(self._sweeping)
        app.on_shutdown.append(self._end)
        return app

    async def _end(self, app: web.Application) -> None:
        self.close_all()

    async def _sweeping(self, app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(self._sweep_forever(), name="trickle-sweep")
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(self.options.sweep_s)
            self.sweep()

    @contextlib.asynccontextmanager
    async def serving(
        self, host: str = "127.0.0.1", port: int = 0, *, base_path: str = "/", tls: ssl.SSLContext | None = None
    ) -> AsyncIterator[str]:
        """Serve on a port of its own (0: a free one).

        Yields:
            The URL below which the channels are, without a slash at its end.

        Raises:
            NetworkError: `port_taken`, the port cannot be had.
        """
        base = "/" + base_path.strip("/")
        app = self.app()
        if base != "/":
            outer = web.Application()
            outer.add_subapp(base, app)
            app = outer
        # Cancelled: else a handler outlives a client that hung up, by the ten seconds for which aiohttp drains a body.
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, handler_cancellation=True)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, host, port, ssl_context=tls).start()
            except OSError as error:
                reason = error.strerror or str(error)
                raise NetworkError(f"cannot listen on {host}:{port}: {reason}", code="port_taken") from error
            found: Any = runner.addresses[0]
            scheme = "https" if tls is not None else "http"
            name = f"[{found[0]}]" if ":" in found[0] else found[0]
            yield f"{scheme}://{name}:{found[1]}{base.rstrip('/')}"
        finally:
            await runner.cleanup()


TRICKLE = web.AppKey("trickle", TrickleServer)


def make_trickle_app(options: TrickleOptions | None = None) -> web.Application:
    """A web application with a trickle server of its own, which is found at `app[TRICKLE]`."""
    return TrickleServer(options).app()
