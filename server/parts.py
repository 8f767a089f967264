"""The parts of one server, made from its settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from comfystream.engine.protocol import Engine, FailPolicy
from comfystream.errors import ConfigError
from comfystream.session.live_engine import EngineHost
from comfystream.session.live_options import LiveOptions
from comfystream.session.live_registry import Sessions
from comfystream.session.live_sink_state import SinkRules
from comfystream.session.live_size import FrameSize, SizeRule
from comfystream.session.source_rules import SourceRules
from comfystream.settings import ServerSettings

from .connection import Connections
from .control.service import ControlService
from .http.metrics import Metrics
from .library import Library
from .presets import Presets
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
    rules: SourceRules
    turn: TurnServices

    @classmethod
    def make(cls, settings: ServerSettings, start_engine: Callable[[], Engine]) -> Parts:
        """All of them.

        Raises:
            ConfigError: settings that cannot be used.
        """
        host = EngineHost(start_engine)
        sessions = Sessions(host, settings.max_sessions, least_fps=settings.min_fps)
        library = Library(_folders("workflow_folders", settings.workflow_folders))
        folders = _folders("source_folders", settings.source_folders)
        rules = SourceRules(folders, settings.allowed_urls, settings.decoder)
        presets = Presets(library, Path(settings.preset_folder) if settings.preset_folder else None)
        control = ControlService(host, library, presets, rules, sink_rules(settings))
        turn = TurnServices([TurnService(**one.model_dump()) for one in settings.turn_services])
        ice = replace(ice_settings(settings), fetched=turn.servers)
        connections = Connections(ice, settings.max_viewers)
        return cls(
            settings=settings,
            options=LiveOptions(
                on_error=FailPolicy(settings.on_error),
                abandoned_after_s=settings.abandoned_after_s,
                size=frame_size(settings),
            ),
            host=host,
            sessions=sessions,
            library=library,
            control=control,
            connections=connections,
            viewers=Viewers(host, control, connections, settings.messages_per_s, settings.max_body_mb << 20),
            metrics=Metrics(sessions, host, has_stream_label=settings.stream_id_label, sent=connections.sent),
            ice=ice,
            rules=rules,
            turn=turn,
        )

    async def close(self) -> None:
        """Viewers leave, sessions end, the engine ends."""
        await self.turn.close()
        await self.connections.close()
        await self.sessions.close()
        await self.host.close()


def sink_rules(settings: ServerSettings) -> SinkRules:
    """What may be recorded and pushed.

    Raises:
        ConfigError: the folder for recordings is not there.
    """
    folder = Path(settings.recording_folder).expanduser() if settings.recording_folder else None
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"recording_folder {folder}: there is no such folder", code="no_folder")
    return SinkRules(folder, settings.allowed_push_urls)


def _folders(setting: str, given: Sequence[str]) -> list[Path]:
    folders = [Path(folder).expanduser() for folder in given]
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"{setting} {folder}: there is no such folder", code="no_folder")
    return folders


def frame_size(settings: ServerSettings) -> FrameSize:
    """What size graphs get.

    Raises:
        ConfigError: not a size, or sides that cannot be used.
    """
    sides = settings.size.split("x")
    if not all(side.isdecimal() for side in sides) or len(sides) != 2:
        raise ConfigError(f'size: "{settings.size}" is no size', code="bad_setting", hint="write 640x360")
    return FrameSize(SizeRule(settings.size_mode), *map(int, sides))


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
