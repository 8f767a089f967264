"""How a node says, in words, what takes so long: "building engine 3/5 (unet), about 4 min left".

The engine listens on the threads that run nodes and hands the words to every viewer. Where nobody listens (in ComfyUI)
they go to the log. A progress bar without words is ComfyUI's own `comfy.utils.ProgressBar`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from contextvars import ContextVar

__all__ = ["Listener", "listen", "listening", "report"]

log = logging.getLogger(__name__)

Listener = Callable[[str, float, float], None]
"""Gets the words, and how much of how much is done (0 of 0 when that is not known)."""

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def report(message: str, value: float = 0.0, maximum: float = 0.0) -> None:
    """Say what is being done. Call it often in what takes long: this is where it can be stopped.

    Args:
        message: one line for people; empty when there is nothing more to say.
        value: how much is done.
        maximum: of how much; 0 when that is not known.

    Raises:
        BaseException: what is done is no longer wanted; let it through.
    """
    listener = _listener.get()
    if listener is not None:
        listener(message, value, maximum)
    elif message:
        log.info("%s", message)


def listen(listener: Listener) -> None:
    """What is reported in this context (a thread, a task) goes to `listener` from now on."""
    _listener.set(listener)


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """While this runs, what is reported in this context (a thread, a task) goes to `listener`."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
