"""WHEP: browsers and players watch a stream with one HTTP request (draft-ietf-wish-whep)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from aiohttp import web

from .ice import IceServer
from .signaling import AnsweringPeer, Signaling

__all__ = ["Watch", "whep"]


class Watch(Protocol):
    """What the application does for those who look on."""

    async def watch(self, stream: str, request: web.Request) -> AnsweringPeer:
        """A new peer that is sent the pictures and sound of `stream`. It closes itself when its offer is no good.

        Raises:
            ComfyStreamError: it cannot be; `BusyError` is answered with 503, `NoSuchSession` with 404.
        """
        ...


def whep(
    application: Watch,
    path: str = "/whep",
    *,
    ice_servers: Callable[[], tuple[IceServer, ...]] = tuple,
    connects_per_s: int = 20,
) -> Signaling:
    """The routes `POST path/{stream}` and so on; the arguments are those of `Signaling`."""
    return Signaling(path, application.watch, ice_servers=ice_servers, connects_per_s=connects_per_s)
