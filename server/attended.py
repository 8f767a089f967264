"""A `comfystream` command that ends with the process that started it, however that ends. ComfyUI's menu uses it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from comfystream.engine.child_process import ChildProcess

__all__ = ["main"]

LEAVE_S = 6.0  # after the end was asked for


def main() -> None:
    """Run until standard input closes: its other end is held by whoever started this, and closes with that process."""
    threading.Thread(target=_watch_parent, name="parent", daemon=True).start()
    from .cli import main as comfystream

    sys.exit(comfystream(sys.argv[1:]))


def _watch_parent() -> None:
    while os.read(0, 4096):
        continue
    _ask_to_end()
    time.sleep(LEAVE_S)
    ChildProcess.kill_all()
    os._exit(0)


def _ask_to_end() -> None:
    if os.name == "nt":
        import _thread

        _thread.interrupt_main()
    else:
        os.kill(os.getpid(), signal.SIGTERM)
