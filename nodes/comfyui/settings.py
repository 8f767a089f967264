"""What a user of ComfyUI sets for the server that is started from its menu."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from comfystream.errors import ConfigError

__all__ = ["Configuration", "Settings", "SettingsFile"]

FIRST_PORT, LAST_PORT = 1024, 65535
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:]{2,39}")
_SIZE = re.compile(r"\d{2,4}x\d{2,4}")
_TURN = re.compile(r"(?:stuns?|turns?):[^\s,]+")
MOST_CONFIGURATIONS = 50


def _host(value: str) -> str:
    if not _HOST.fullmatch(value):
        raise ValueError("a host is a name or an address, such as 127.0.0.1")
    return value


class Configuration(BaseModel):
    """A host and a port under a name."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=80)
    host: str
    port: int = Field(ge=FIRST_PORT, le=LAST_PORT)

    _check_host = field_validator("host")(_host)


class Settings(BaseModel):
    """All of them.

    Attributes:
        host: where the server listens; another address than this machine's own makes it ask for a token.
        port: the first that is tried.
        source: what the panel takes as camera at first.
        size, size_mode: as in `comfystream serve`.
        turn_url, turn_username, turn_credential: a TURN server; empty for none.
        token: of the server; empty makes one up at each start.
        restart: start the server again when it dies.
        configurations, selectedConfigIndex: kept hosts and ports, under the names that the first generation wrote.
    """

    model_config = ConfigDict(extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(8889, ge=FIRST_PORT, le=LAST_PORT)
    source: Literal["camera", "screen", "pattern"] = "camera"
    size: str = "512x512"
    size_mode: Literal["follow", "fit", "fill"] = "follow"
    turn_url: str = Field("", max_length=300)
    turn_username: str = Field("", max_length=200)
    turn_credential: str = Field("", max_length=200)
    token: str = Field("", max_length=200)
    restart: bool = True
    configurations: list[Configuration] = Field([], max_length=MOST_CONFIGURATIONS)
    selectedConfigIndex: int = Field(-1, ge=-1)  # noqa: N815 - a key of existing files

    _check_host = field_validator("host")(_host)

    @field_validator("size")
    @classmethod
    def _check_size(cls, value: str) -> str:
        if not _SIZE.fullmatch(value):
            raise ValueError("a size is written 512x512")
        return value

    @field_validator("turn_url")
    @classmethod
    def _check_turn(cls, value: str) -> str:
        if value and not _TURN.fullmatch(value):
            raise ValueError("a TURN server is written turn:host:port")
        return value

    @field_validator("token")
    @classmethod
    def _check_token(cls, value: str) -> str:
        if value and (len(value) < 8 or not value.isascii() or not value.isprintable() or " " in value):
            raise ValueError("a token has 8 plain characters at least, without blanks")
        return value


class SettingsFile:
    """The settings on disk; a file that cannot be read is kept aside, and the defaults hold.

    Args:
        path: of the file, which need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.trouble = ""
        self._now = self._read()

    @property
    def now(self) -> Settings:
        """As they are."""
        return self._now

    def _read(self) -> Settings:
        try:
            return Settings.model_validate_json(self._path.read_text("utf-8"))
        except FileNotFoundError:
            return Settings()
        except (OSError, ValueError) as error:
            self.trouble = f"{self._path.name} cannot be used, so the defaults hold: {_words(error)}"
            return Settings()

    def update(self, values: dict[str, Any]) -> Settings:
        """Change some of them.

        Raises:
            ConfigError: a value that cannot be, or the file cannot be written.
        """
        try:
            return self._write(Settings.model_validate({**self._now.model_dump(), **values}))
        except ValidationError as error:
            raise ConfigError(_words(error), code="bad_setting") from None

    def add(self, name: Any, host: Any, port: Any) -> Settings:
        """Keep a host and a port under a name; one of that name is replaced."""
        kept = [one.model_dump() for one in self._now.configurations if one.name != name]
        return self.update({"configurations": [*kept, {"name": name, "host": host, "port": port}]})

    def remove(self, index: Any) -> Settings:
        """Forget one."""
        self._kept(index)
        kept = [one.model_dump() for number, one in enumerate(self._now.configurations) if number != index]
        chosen = self._now.selectedConfigIndex
        moved = -1 if chosen == index else chosen - (chosen > index)
        return self.update({"configurations": kept, "selectedConfigIndex": moved})

    def select(self, index: Any) -> Settings:
        """Use one; -1 for none of them."""
        if index == -1:
            return self.update({"selectedConfigIndex": -1})
        one = self._kept(index)
        return self.update({"selectedConfigIndex": index, "host": one.host, "port": one.port})

    def _kept(self, index: Any) -> Configuration:
        if type(index) is not int or not 0 <= index < len(self._now.configurations):
            raise ConfigError(f"there is no configuration {index!r:.20}", code="bad_setting")
        return self._now.configurations[index]

    def _write(self, settings: Settings) -> Settings:
        draft = self._path.with_suffix(".part")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(settings.model_dump(), indent=2) + "\n", encoding="utf-8")
            draft.chmod(0o600)  # there is a token in it
            os.replace(draft, self._path)
        except OSError as error:
            raise ConfigError(f"the settings cannot be kept: {error.strerror or error}", code="not_kept") from error
        self._now, self.trouble = settings, ""
        return settings


def _words(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg'].removeprefix('Value error, ')}"
