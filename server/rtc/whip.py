"""WHIP (RFC 9725): OBS, FFmpeg, GStreamer and browsers publish with one HTTP request.

FFmpeg 8.1 built with GnuTLS makes its certificate on a curve that WebRTC does not know (RFC 8827 6.5 asks for P-256),
and no connection comes about: give it one with `-cert_file` and `-key_file`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from aiohttp import web

from .ice import IceServer
from .signaling import AnsweringPeer, Signaling

__all__ = ["Publish", "whip"]


class Publish(Protocol):
    """What the application does for those who send."""

    async def publish(self, stream: str, request: web.Request) -> AnsweringPeer:
        """A new peer whose pictures and sound go into `stream`. It closes itself when its offer is no good.

        Raises:
            ComfyStreamError: it cannot be; `BusyError` is answered with 503, `NoSuchSession` with 404.
        """
        ...


def whip(
    application: Publish,
    path: str = "/whip",
    *,
    ice_servers: Callable[[], tuple[IceServer, ...]] = tuple,
    connects_per_s: int = 20,
) -> Signaling:
    """The routes `POST path/{stream}` and so on; the arguments are those of `Signaling`."""
    return Signaling(path, application.publish, ice_servers=ice_servers, connects_per_s=connects_per_s)
