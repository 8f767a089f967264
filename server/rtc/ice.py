"""How two ends find each other: STUN and TURN servers, the ports that media may use, and passwords that expire.

Nothing public is in here by default: without settings the server offers its own addresses and asks nobody.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiortc import RTCConfiguration, RTCIceServer
from aiortc.rtcconfiguration import RTCIceTransportPolicy
from aiortc.rtcicetransport import parse_stun_turn_uri

from comfystream.errors import ConfigError

__all__ = ["IceServer", "IceSettings", "PortRange", "TurnSecret"]


@dataclass(frozen=True, slots=True)
class IceServer:
    """A STUN or TURN server.

    Attributes:
        urls: "stun:host:port", "turn:host:port?transport=udp", "turns:host:port".
        username, credential: for TURN; empty for STUN.

    Raises:
        ConfigError: a URL cannot be read, or a TURN server comes without its password.
    """

    urls: tuple[str, ...]
    username: str = ""
    credential: str = ""

    def __post_init__(self) -> None:
        if not self.urls:
            raise ConfigError("an ICE server needs at least one URL", hint='such as "stun:stun.example.org:3478"')
        for url in self.urls:
            _check_url(url, has_password=bool(self.username and self.credential))


def _check_url(url: str, has_password: bool) -> None:
    try:
        parse_stun_turn_uri(url)
    except ValueError as error:
        hint = "write stun:host:port, turn:host:port or turns:host:port"
        raise ConfigError(f'ICE server "{url}": {error}', hint=hint) from error
    if url.startswith("turn") and not has_password:
        raise ConfigError(f'ICE server "{url}" has no username and credential', hint="TURN servers ask for both")


@dataclass(frozen=True, slots=True)
class TurnSecret:
    """A TURN server that takes passwords made from a shared secret ("TURN REST API", coturn's `use-auth-secret`).

    Attributes:
        urls: as for `IceServer`.
        secret: shared with the TURN server; never leaves this process.
        ttl_s: how long a password is good for, in seconds.
    """

    urls: tuple[str, ...]
    secret: str
    ttl_s: int = 24 * 3600

    def server(self, now_s: float, user: str = "comfystream") -> IceServer:
        """The server with a password that expires `ttl_s` after `now_s` (Unix time)."""
        username = f"{int(now_s) + self.ttl_s}:{user}"
        digest = hmac.new(self.secret.encode(), username.encode(), hashlib.sha1).digest()
        return IceServer(self.urls, username, base64.b64encode(digest).decode())


@dataclass(frozen=True, slots=True)
class PortRange:
    """UDP ports from `first` to `last`, both included.

    Raises:
        ConfigError: they are no range of ports.
    """

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.last <= 65535:
            raise ConfigError(f"media ports {self.first}-{self.last}: ports go from 1 to 65535, the lower one first")

    @classmethod
    def parse(cls, text: str) -> PortRange:
        """Read "50000-50100", or one port.

        Raises:
            ConfigError: it is neither.
        """
        first, _, last = text.partition("-")
        try:
            return cls(int(first), int(last or first))
        except ValueError as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f'media ports "{text}"', hint="write 50000-50100") from error


@dataclass(frozen=True, slots=True)
class IceSettings:
    """What a peer may use to reach the other end.

    Attributes:
        servers: STUN and TURN servers with fixed passwords.
        secrets: TURN servers whose passwords are made for each connection.
        media_ports: the UDP ports to use; None = whatever is free.
        is_relay_only: use TURN only and tell nobody the addresses of this machine.
        fetched: gives servers that come and go.
        has_loopback: also offer 127.0.0.1, for machines and containers without a network.
    """

    servers: tuple[IceServer, ...] = ()
    secrets: tuple[TurnSecret, ...] = ()
    media_ports: PortRange | None = None
    is_relay_only: bool = False
    has_loopback: bool = False
    fetched: Callable[[], tuple[IceServer, ...]] = tuple

    def current_servers(self, now_s: float | None = None) -> tuple[IceServer, ...]:
        """All servers, with passwords that are good now."""
        now = time.time() if now_s is None else now_s
        return (*self.servers, *(secret.server(now) for secret in self.secrets), *self.fetched())

    def for_browser(self, now_s: float | None = None) -> list[dict[str, Any]]:
        """The `iceServers` of a browser's `RTCPeerConnection`."""
        return [_browser_entry(server) for server in self.current_servers(now_s)]

    def configuration(self, now_s: float | None = None) -> RTCConfiguration:
        """The same for aiortc, which would ask a public STUN server if it were given no list at all."""
        servers: Sequence[RTCIceServer] = [
            RTCIceServer(list(server.urls), server.username or None, server.credential or None)
            for server in self.current_servers(now_s)
        ]
        policy = RTCIceTransportPolicy.RELAY if self.is_relay_only else RTCIceTransportPolicy.ALL
        return RTCConfiguration(iceServers=list(servers), iceTransportPolicy=policy)


def _browser_entry(server: IceServer) -> dict[str, Any]:
    entry: dict[str, Any] = {"urls": list(server.urls)}
    if server.username:
        entry |= {"username": server.username, "credential": server.credential}
    return entry
