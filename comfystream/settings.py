"""What an operator may set: one schema; a file, then `COMFYSTREAM_...` variables, then flags, the later one wins."""

from __future__ import annotations

import difflib
import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from comfystream.errors import ConfigError

__all__ = ["IceServerSettings", "ServerSettings", "TurnServiceSettings", "load_settings"]

PREFIX = "COMFYSTREAM_"


class IceServerSettings(BaseModel):
    """A STUN or TURN server. With `secret` the password is made anew for each connection (TURN REST)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    urls: tuple[str, ...] = Field(min_length=1)
    username: str = ""
    credential: str = ""
    secret: str = ""


class TurnServiceSettings(BaseModel):
    """A service that sells TURN: passwords are fetched from it. `id` is Twilio's account SID or Cloudflare's key id."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: Literal["twilio", "cloudflare"]
    id: str = Field(min_length=1)
    token: str = Field(min_length=1)
    ttl_s: int = Field(86400, ge=60, le=172800)
    base_url: str = ""


class ServerSettings(BaseModel):
    """Settings of `comfystream serve`. `configs/comfystream.yaml` explains each."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(8889, ge=0, le=65535)
    media_ports: str = ""
    ice_servers: tuple[IceServerSettings, ...] = ()
    turn_services: tuple[TurnServiceSettings, ...] = ()
    ice_loopback: bool = False
    tls: Literal["", "self-signed"] = ""
    tls_cert: str = ""
    tls_key: str = ""
    ice_relay_only: bool = False
    token: str = ""
    viewer_token: str = ""
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    max_sessions: int = Field(4, ge=1, le=1000)
    min_fps: float = Field(2.0, ge=0, le=1000)
    max_viewers: int = Field(32, ge=1, le=10_000)
    connects_per_s: int = Field(20, ge=1, le=10_000)
    abandoned_after_s: float = Field(30.0, ge=0, le=86400)
    max_body_mb: int = Field(16, ge=1, le=1024)
    messages_per_s: int = Field(200, ge=1)
    size: str = "512x512"
    size_mode: Literal["follow", "fit", "fill"] = "follow"
    preset_folder: str = ""
    workspace: str = ""
    node_folders: tuple[str, ...] = ()
    comfyui: str = ""
    api_nodes: bool = True
    vram: Literal["low", "normal", "high"] = "normal"
    allow_packs: tuple[str, ...] = ()
    block_packs: tuple[str, ...] = ()
    workflow_folders: tuple[str, ...] = ()
    source_folders: tuple[str, ...] = ()
    allowed_urls: tuple[str, ...] = ()
    threads: int = Field(0, ge=0)
    decoder: Literal["auto", "software", "nvdec"] = "software"
    frames_on: Literal["auto", "host", "cuda"] = "auto"
    on_error: Literal["hold", "slate", "passthrough", "stop"] = "hold"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    log_format: Literal["text", "json"] = "text"
    stream_id_label: bool = False
    recording_folder: str = ""
    allowed_push_urls: tuple[str, ...] = ()
    rtmp_port: int = Field(0, ge=0, le=65535)
    drain_s: float = Field(10.0, ge=0, le=86400)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def load_settings(
    file: Path | None = None, flags: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> ServerSettings:
    """Settings from all three places.

    Args:
        file: YAML; None for none.
        flags: what was given on the command line; None values were not given.
        environ: of the process by default.

    Raises:
        ConfigError: a key that does not exist, or a value that cannot be used; the message says where it stands.
    """
    environ = os.environ if environ is None else environ
    given: dict[str, Any] = {}
    where: dict[str, str] = {}
    for place, values in (
        (str(file), _from_file(file)),
        ("the environment", _twilio(environ) | _from_environment(environ)),
        ("the command line", {key: value for key, value in (flags or {}).items() if value is not None}),
    ):
        for key, value in values.items():
            _check_key(key, place)
            given[key], where[key] = value, place
    try:
        return ServerSettings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{where.get(str(first['loc'][0]), 'settings')}: {key}: {first['msg']}", code="bad_setting"
        ) from None


def _check_key(key: str, place: str) -> None:
    known = list(ServerSettings.model_fields)
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1)
        hint = f'did you mean "{near[0]}"?' if near else f"there are: {', '.join(known)}"
        raise ConfigError(f'{place}: there is no setting "{key}"', code="unknown_setting", hint=hint)


def _from_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        document = yaml.safe_load(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}", code="no_config_file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not YAML: {' '.join(str(error).split())}", code="bad_config_file") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{file}: settings are lines of the form name: value", code="bad_config_file")
    return {str(key): value for key, value in document.items()}


def _twilio(environ: Mapping[str, str]) -> dict[str, Any]:
    """The variables of the first generation."""
    id, token = environ.get("TWILIO_ACCOUNT_SID"), environ.get("TWILIO_AUTH_TOKEN")
    return {"turn_services": [{"provider": "twilio", "id": id, "token": token}]} if id and token else {}


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Only what is one of our settings: other variables may share the prefix. Lists and numbers as YAML."""
    found: dict[str, Any] = {}
    for name, text in environ.items():
        key = name.removeprefix(PREFIX).lower()
        if name.startswith(PREFIX) and key in ServerSettings.model_fields:
            is_text = ServerSettings.model_fields[key].annotation is str
            try:
                found[key] = text if is_text else yaml.safe_load(text)
            except yaml.YAMLError:
                raise ConfigError(f"{name}: the value cannot be read: {text[:80]}", code="bad_setting") from None
    return found
