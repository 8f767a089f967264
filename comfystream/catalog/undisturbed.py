"""Keeps what belongs to the whole process as it was while foreign code is imported."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["undisturbed"]


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Run foreign imports; afterwards arguments, folder, streams, log handlers and signal handlers are ours again.

    While it runs, `sys.argv` is the bare program: ComfyUI and many packs parse what they find there.
    """
    root = logging.getLogger()
    handlers, level, disabled = [*root.handlers], root.level, root.manager.disable
    streams = sys.stdout, sys.stderr
    hook, folder = sys.excepthook, os.getcwd()
    signals = _signal_handlers()
    argv, sys.argv = sys.argv, sys.argv[:1]
    try:
        yield
    finally:
        sys.argv, sys.excepthook = argv, hook
        sys.stdout, sys.stderr = streams
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.disable(disabled)
        os.chdir(folder)
        for number, handler in signals.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def _signal_handlers() -> dict[signal.Signals, Any]:
    """What can be put back: only the main thread may set handlers, and only those that Python has set."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    return {number: handler for number, handler in found.items() if handler is not None}
