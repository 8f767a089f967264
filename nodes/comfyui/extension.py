"""Where this package and a running ComfyUI meet: its `PromptServer` gets our routes."""

from __future__ import annotations

import atexit
import logging
import os
import sys
from pathlib import Path
from typing import Any

__all__ = ["attach"]

_log = logging.getLogger("comfystream")


def attach(root: Path) -> None:
    """Add the routes to the ComfyUI around us; nothing happens where there is none.

    Args:
        root: the folder that ComfyUI loaded.
    """
    server = _prompt_server()
    if server is None:
        return
    from .routes import Routes
    from .settings import SettingsFile
    from .supervisor import Supervisor
    from .surroundings import around_us

    supervisor = Supervisor(notify=lambda: _tell(server, supervisor))
    Routes(root, SettingsFile(_settings_file(root)), supervisor, comfyui=around_us()).add_to(server)
    atexit.register(supervisor.close)
    _log.info("ComfyStream: ready in ComfyUI's menu")


def _prompt_server() -> Any | None:
    """ComfyUI's server; None in our own engine, which loads node packs beside a stand-in for it."""
    if "comfystream.engine" in sys.modules:
        return None
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    return server if hasattr(server, "routes") else None


def _tell(server: Any, supervisor: Any) -> None:
    """Pages hear that something changed and ask what; the message itself holds nothing of interest to others."""
    if getattr(server, "loop", None) is not None and server.loop.is_running():
        server.send_sync("comfystream.status", {"state": str(supervisor.state)})


def _settings_file(root: Path) -> Path:
    """In ComfyUI's user folder, which outlives an update of this one; in ours where there is none."""
    paths = sys.modules.get("folder_paths")
    if hasattr(paths, "get_user_directory"):
        return Path(paths.get_user_directory()) / "comfystream" / "comfystream_settings.json"
    return Path(os.environ.get("COMFYSTREAM_HOME") or root) / "settings" / "comfystream_settings.json"
