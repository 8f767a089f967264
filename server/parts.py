"""The parts of one server, made from its settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from comfystream.engine.protocol import Engine, FailPolicy
from comfystream.session.live import LiveOptions
from comfystream.session.live_engine import EngineHost
from comfystream.session.live_registry import Sessions
from comfystream.settings import ServerSettings

from .connection import Connections
from .control.service import ControlService
from .http.metrics import Metrics
from .library import Library
from .rtc.ice import IceServer, IceSettings, PortRange, TurnSecret
from .rtc.turn_services import TurnService, TurnServices
from .viewers import Viewers

__all__ = ["Parts"]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the routes work with."""

    settings: ServerSettings
    options: LiveOptions
    host: EngineHost
    sessions: Sessions
    library: Library
    control: ControlService
    connections: Connections
    viewers: Viewers
    metrics: Metrics
    ice: IceSettings
    turn: TurnServices

    @classmethod
    def make(cls, settings: ServerSettings, start_engine: Callable[[], Engine]) -> Parts:
        """All of them.

        Raises:
            ConfigError: settings that cannot be used.
        """
        host = EngineHost(start_engine)
        sessions = Sessions(host, settings.max_sessions)
        library = Library([Path(folder) for folder in settings.workflow_folders])
        control = ControlService(host, library)
        turn = TurnServices([TurnService(**one.model_dump()) for one in settings.turn_services])
        ice = replace(ice_settings(settings), fetched=turn.servers)
        connections = Connections(ice, settings.max_viewers)
        return cls(
            settings=settings,
            options=LiveOptions(on_error=FailPolicy(settings.on_error), abandoned_after_s=settings.abandoned_after_s),
            host=host,
            sessions=sessions,
            library=library,
            control=control,
            connections=connections,
            viewers=Viewers(host, control, connections, settings.messages_per_s, settings.max_body_mb << 20),
            metrics=Metrics(sessions, host, has_stream_label=settings.stream_id_label),
            ice=ice,
            turn=turn,
        )

    async def close(self) -> None:
        """Viewers leave, sessions end, the engine ends."""
        await self.turn.close()
        await self.connections.close()
        await self.sessions.close()
        await self.host.close()


def ice_settings(settings: ServerSettings) -> IceSettings:
    """How viewers are reached.

    Raises:
        ConfigError: an address or a range of ports that cannot be used.
    """
    servers = [one for one in settings.ice_servers if not one.secret]
    secrets = [one for one in settings.ice_servers if one.secret]
    return IceSettings(
        servers=tuple(IceServer(one.urls, one.username, one.credential) for one in servers),
        secrets=tuple(TurnSecret(one.urls, one.secret) for one in secrets),
        media_ports=_port_range(settings.media_ports),
        is_relay_only=settings.ice_relay_only,
        has_loopback=settings.ice_loopback,
    )


def _port_range(text: str) -> PortRange | None:
    """A range, or the comma list of the first generation, which is taken from its lowest to its highest."""
    if not text:
        return None
    if "," not in text:
        return PortRange.parse(text)
    ports = [PortRange.parse(part.strip()) for part in text.split(",")]
    return PortRange(min(port.first for port in ports), max(port.last for port in ports))
