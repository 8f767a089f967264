"""WHEP: browsers and players watch a stream with one HTTP request (draft-ietf-wish-whep)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from aiohttp import web

from .ice import IceServer
from .signaling import AnsweringPeer, Authorize, Signaling

__all__ = ["Watch", "whep"]


class Watch(Protocol):
    """What the application does for those who look on."""

    async def watch(self, stream: str, request: web.Request) -> AnsweringPeer:
        """A new peer that is sent the pictures and sound of `stream`. It is closed for you when its offer is no good.

        Raises:
            ComfyStreamError: it cannot be; `BusyError` is answered with 503, the code "not_found" with 404.
        """
        ...


def whep(
    application: Watch,
    path: str = "/whep",
    *,
    authorize: Authorize | None = None,
    ice_servers: Callable[[], tuple[IceServer, ...]] = tuple,
    origins: tuple[str, ...] = (),
) -> Signaling:
    """The routes `POST path/{stream}` and so on; the arguments are those of `Signaling`."""
    return Signaling(path, application.watch, authorize=authorize, ice_servers=ice_servers, origins=origins)
