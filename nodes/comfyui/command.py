"""The command line and the environment of the server process."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comfystream.errors import ConfigError

from .settings import Settings
from .surroundings import Surroundings

__all__ = ["arguments", "boot", "environment", "free_port", "is_free", "missing_libraries"]

NEEDED = ("aiohttp", "aiortc", "av", "numpy", "PIL", "prometheus_client", "pydantic", "rich", "torch", "typer", "yaml")
PORTS_TRIED = 50
# As options: with a `._pth` file beside it, as in the portable Windows build, Python ignores its variables.
_OPTIONS = ("-P", "-u", "-X", "utf8")
_BOOT = "import sys; sys.path[:] = {path!r}; from comfystream_server.attended import main; main()"


def missing_libraries() -> list[str]:
    """Import names that the server needs and this Python lacks."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def boot(comfyui: Surroundings | None) -> list[str]:
    """This Python with the import paths of this process, less those of ComfyUI and of other people's node packs."""
    mine = [entry for entry in sys.path if entry and not _is_comfyuis(Path(entry).resolve(), comfyui)]
    return [sys.executable, *_OPTIONS, "-c", _BOOT.format(path=mine)]


def _is_comfyuis(entry: Path, comfyui: Surroundings | None) -> bool:
    """Whether `nodes` and `server` there are not ours; libraries may well lie inside ComfyUI's folder, in its venv."""
    is_library = "site-packages" in entry.parts or entry == Path(__file__).resolve().parents[2] / "importable"
    return comfyui is not None and entry.is_relative_to(comfyui.folder) and not is_library


def arguments(settings: Settings, port: int, comfyui: Surroundings | None) -> list[str]:
    """What `comfystream serve` is told; no secret, for other users of the machine see command lines."""
    words = ["serve", "--host", settings.host, "--port", str(port), "--drain-s", "0"]
    words += ["--size", settings.size, "--size-mode", settings.size_mode]
    if comfyui is not None:
        words += ["--comfyui" if _is_whole(comfyui.folder) else "--workspace", str(comfyui.folder), *comfyui.words]
    return words


def environment(
    settings: Settings, token: str, comfyui: Surroundings | None = None, environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The rest of what it is told."""
    told = {**environ, **(comfyui.environ if comfyui is not None else {})}
    told |= {"COMFYSTREAM_TOKEN": token}
    if settings.turn_url:
        server: dict[str, object] = {"urls": [settings.turn_url]}
        if settings.turn_username:
            server |= {"username": settings.turn_username, "credential": settings.turn_credential}
        told["COMFYSTREAM_ICE_SERVERS"] = json.dumps([server])
    return told


def _is_whole(comfyui: Path) -> bool:
    """Whether the engine can load all of it (`--comfyui`), and not only the node packs of that folder."""
    return (comfyui / "execution.py").is_file() and (comfyui / "comfy").is_dir()


def free_port(host: str, first: int) -> int:
    """The first port from `first` on that can be had.

    Raises:
        ConfigError: the host is none of this machine, or all ports are taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, first, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ConfigError(f"host {host}: {error.strerror or error}", code="bad_host") from error
    reason = "there are no more"
    for port in range(first, min(first + PORTS_TRIED, 65536)):
        reason = _in_the_way(family, (address[0], port, *address[2:]))
        if not reason:
            return port
    raise ConfigError(f"cannot listen on {host}, ports from {first} on: {reason}", code="cannot_listen")


def is_free(host: str, port: int) -> bool:
    """Whether nobody listens there."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return not _in_the_way(family, address)


def _in_the_way(family: int, address: tuple[Any, ...]) -> str:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if os.name != "nt":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            return error.strerror or str(error)
    return ""
