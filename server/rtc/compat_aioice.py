"""What aioice, and aiortc around it, does not do, put right on single objects and nowhere else.

Rules and layout are those of `compat_aiortc`; `tests/server/rtc/test_compat_aioice.py` fails when a fact changes.

MEDIA_PORTS  aioice binds to any free UDP port and leaves out 127.0.0.1, and waits half a minute for a TURN server
             that is not there. Goes when `Connection` takes a port range and a time limit.
ICE_RESTART  `RTCIceTransport` keeps its first `Connection`, whose credentials are fixed, for life, and the DTLS
             transport ends with it: who comes back from another network has to begin anew, with a key frame for each.
             Here a second connection is made beside the first. Both put what comes into one queue, which the DTLS
             transport is waiting at, and the second takes over the transport's `_send` and `_recv` once it is up.
             Goes when aiortc answers offers with new ICE credentials.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
from typing import Any

from aioice import Candidate
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import Connection, StunProtocol, server_reflexive_candidate
from aioice.stun import TransactionError
from aiortc import RTCIceCandidate, RTCIceGatherer, RTCIceTransport, RTCPeerConnection
from aiortc.rtcicetransport import candidate_to_aioice

from .compat_aiortc import swap
from .ice import IceSettings, PortRange

__all__ = ["SecondIce", "limit_ports", "live_transport"]

logger = logging.getLogger(__name__)

_STUN_S = 5  # as aioice has it


# --- where it binds ---------------------------------------------------------------------------------------------------


def limit_ports(connection: RTCPeerConnection, settings: IceSettings) -> None:
    """MEDIA_PORTS for a connection whose transceivers are there but that has not begun to look for its addresses."""
    for transport in getattr(connection, "_RTCPeerConnection__iceTransports", ()):
        _limit(transport.iceGatherer._connection, settings)


def _limit(ice: Connection, settings: IceSettings) -> None:
    swap(ice, "get_component_candidates", functools.partial(_gather, ice, ice.get_component_candidates, settings))


async def _gather(
    ice: Connection, rest: Any, settings: IceSettings, component: int, addresses: list[str]
) -> list[Candidate]:
    """As aioice's own, but for where it binds; what comes from a TURN server is left to it."""
    if settings.is_relay_only:
        return await _relayed(rest, component, addresses)
    if settings.has_loopback:
        addresses = [*addresses, "127.0.0.1"]
    tried = [await _bind(ice, address, settings.media_ports) for address in addresses]
    protocols = [protocol for protocol in tried if protocol is not None]
    for protocol in protocols:
        host, port = protocol.transport.get_extra_info("sockname")[:2]
        foundation, priority = candidate_foundation("host", "udp", host), candidate_priority(component, "host")
        protocol.local_candidate = Candidate(foundation, component, "udp", priority, host, port, "host")
    ice._protocols += protocols
    found = [protocol.local_candidate for protocol in protocols]
    if ice.stun_server:
        asked = (server_reflexive_candidate(p, ice.stun_server) for p in protocols if ":" not in p.local_candidate.host)
        answers = await asyncio.gather(*(asyncio.wait_for(answer, _STUN_S) for answer in asked), return_exceptions=True)
        found += [answer[0] for answer in answers if not isinstance(answer, BaseException)]
    return found + await _relayed(rest, component, [])


async def _relayed(rest: Any, component: int, addresses: list[str]) -> list[Candidate]:
    """What aioice finds by itself; a TURN server that is not there would hold the answer up for half a minute."""
    try:
        relayed: list[Candidate] = await asyncio.wait_for(rest(component, addresses), _STUN_S)
    except (OSError, TransactionError) as error:  # among them: no answer in time, a wrong password
        logger.warning("going on without the TURN server: %s", str(error) or f"no answer within {_STUN_S} s")
        return []
    return relayed


async def _bind(ice: Connection, address: str, ports: PortRange | None) -> StunProtocol | None:
    loop = asyncio.get_running_loop()
    choice = list(range(ports.first, ports.last + 1)) if ports else [0]
    random.shuffle(choice)
    for port in choice:
        with contextlib.suppress(OSError):
            _, protocol = await loop.create_datagram_endpoint(lambda: StunProtocol(ice), local_addr=(address, port))
            return protocol
    logger.warning("no free UDP port for media at %s", address)
    return None


# --- a second connection in the place of the first --------------------------------------------------------------------


def live_transport(connection: RTCPeerConnection) -> RTCIceTransport | None:
    """The one transport over which everything goes; None while there is none, or where things are not bundled."""
    transports = [*getattr(connection, "_RTCPeerConnection__iceTransports", ())]
    return transports[0] if len(transports) == 1 and transports[0].state == "completed" else None


class SecondIce:
    """ICE_RESTART: another connection for a transport that is up. First `gather`, then `connect`, then `take_over`.

    Until it has taken over the first one goes on, and is not given up for silence: the other end has just been heard.

    Args:
        transport: from `live_transport`.
        settings: how the other end is reached.
        ufrag, password: of the other end.
    """

    def __init__(self, transport: RTCIceTransport, settings: IceSettings, ufrag: str, password: str) -> None:
        configuration = settings.configuration()
        self._transport = transport
        self._gatherer = RTCIceGatherer(configuration.iceServers, configuration.iceTransportPolicy)
        self._first: Connection = transport._connection
        self._second: Connection = self._gatherer._connection
        self._second.ice_controlling = self._first.ice_controlling
        self._second.remote_username, self._second.remote_password = ufrag, password
        self._second._queue = self._first._queue
        self._is_over = False
        _limit(self._second, settings)

    @property
    def credentials(self) -> tuple[str, str]:
        """Ufrag and password of this end."""
        return self._second.local_username, self._second.local_password

    async def gather(self) -> list[RTCIceCandidate]:
        """Bind sockets: the candidates of this end; none if no port is free."""
        await self._gatherer.gather()
        return self._gatherer.getLocalCandidates()

    async def add(self, candidate: RTCIceCandidate) -> None:
        """One more address of the other end. That there are no more is not told: it may show up by itself."""
        await self._second.add_remote_candidate(candidate_to_aioice(candidate))

    async def connect(self) -> None:
        """Check the pairs until one works.

        Raises:
            ConnectionError: none does.
        """
        consent, self._first._query_consent_task = self._first._query_consent_task, None
        if consent is not None:
            consent.cancel()
        await self._second.connect()

    def take_over(self) -> None:
        """From here on everything is sent over it; what still comes by the first is taken until `close_first`."""
        transport, first, second = self._transport, self._first, self._second
        second._event_waiter, first._event_waiter = first._event_waiter, None  # who waits there for the end
        transport._connection, transport._recv, transport._send = second, second.recv, second.send
        swap(transport, "_RTCIceTransport__iceGatherer", self._gatherer)
        self._is_over = True

    async def close_first(self) -> None:
        """Let go of the sockets of before."""
        await _close_alone(self._first)

    async def abandon(self) -> None:
        """Close it and go on with the first, unless it has taken over. Idempotent."""
        if self._is_over:
            return
        self._is_over = True
        await _close_alone(self._second)
        first = self._first
        if first._query_consent_task is None and not first._closing:
            first._query_consent_task = asyncio.create_task(first.query_consent())


async def _close_alone(ice: Connection) -> None:
    """Close one of two that share a queue: the end of a connection is said in its queue."""
    ice._queue = asyncio.Queue()
    await ice.close()
