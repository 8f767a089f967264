"""ICE restarts of one connection: who comes back from another network goes on with the same keys and pictures."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from typing import Any

from aiortc import RTCIceCandidate, RTCPeerConnection

from comfystream.errors import NetworkError

from .compat_aioice import SecondIce, live_transport
from .ice import IceSettings
from .sdp import MALFORMED, Fragment, new_credentials, write_fragment

__all__ = ["IceRestarts"]

logger = logging.getLogger(__name__)

_CONNECT_S = 30.0
_LINGER_S = 2.0  # what was sent before the other end changed over is still under way


class IceRestarts:
    """Restarts ICE when the other end asks for it (RFC 8839 4.4.1.1.1, RFC 9725 4.3.3); lives on the event loop.

    Args:
        connection: of the peer.
        settings: how the other end is reached.
    """

    def __init__(self, connection: RTCPeerConnection, settings: IceSettings) -> None:
        self._connection = connection
        self._settings = settings
        self._lock = asyncio.Lock()
        self._second: SecondIce | None = None
        self._moving: asyncio.Task[None] | None = None
        self._lookups: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self.count = 0

    async def begin(self, fragment: Fragment) -> str:
        """Make a new ICE connection and go on over it when it is up: the fragment to answer with.

        A restart that is under way is given up for this one; where none comes up the connection stays as it was.

        Raises:
            NetworkError: the fragment has no credentials ("bad_sdp"), or it cannot be done now ("no_restart").
        """
        ufrag, password = new_credentials(fragment)
        async with self._lock:
            await self._stop()
            transport = live_transport(self._connection)
            if transport is None:
                raise _no_restart("there is no connection yet, or there are several in one")
            second = SecondIce(transport, self._settings, ufrag, password)
            try:
                found = await second.gather()
                if self._is_closed:
                    raise _no_restart("the connection has ended")
                if not found:
                    raise _no_restart("no UDP port is free for a second connection beside the first")
            except BaseException:
                await second.abandon()
                raise
            self._second, self.count = second, self.count + 1
            self._moving = asyncio.create_task(self._move(second), name="peer-restart")
        self.add(fragment.candidates)
        return write_fragment(self._connection.localDescription.sdp, *second.credentials, found)

    @property
    def is_later(self) -> bool:
        """Whether there was a restart: then what comes later has to come here."""
        return self._second is not None

    def add(self, candidates: Iterable[RTCIceCandidate]) -> None:
        """More addresses of the other end; looking up a name may take its time."""
        for candidate in candidates:
            if self._second is not None:
                self._look_up(self._second.add(candidate))

    def _look_up(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="peer-candidate")
        self._lookups.add(task)
        task.add_done_callback(self._looked_up)

    def _looked_up(self, task: asyncio.Task[None]) -> None:
        self._lookups.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            level = logging.INFO if isinstance(error, MALFORMED) else logging.ERROR
            logger.log(level, "an ICE candidate could not be used: %s", error)

    async def _move(self, second: SecondIce) -> None:
        try:
            async with asyncio.timeout(_CONNECT_S):
                await second.connect()
        except (ConnectionError, TimeoutError) as error:
            logger.info("an ICE restart came to nothing: %s", str(error) or f"no answer within {_CONNECT_S:.0f} s")
            await second.abandon()
            return
        except BaseException:
            await second.abandon()
            raise
        second.take_over()
        logger.info("the connection goes on over a new ICE connection")
        try:
            await asyncio.sleep(_LINGER_S)
        finally:
            await second.close_first()

    async def _stop(self) -> None:
        if self._moving is not None:
            self._moving.cancel()
            await asyncio.wait([self._moving])

    async def close(self) -> None:
        """No more restarts. Idempotent."""
        self._is_closed = True
        for task in [*self._lookups]:
            task.cancel()
        await self._stop()


def _no_restart(why: str) -> NetworkError:
    hint = "delete the connection and post again"
    return NetworkError(f"ICE cannot be restarted: {why}", code="no_restart", hint=hint)
