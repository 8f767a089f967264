"""The two places where an engine may live, to measure both in one run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from comfystream.engine.protocol import Engine, EngineOptions

__all__ = ["KINDS", "opened"]

KINDS = ("in this process", "in a child process")


@contextmanager
def opened(kind: str, options: EngineOptions) -> Iterator[Engine]:
    """An engine of one of `KINDS`."""
    engine = _make(kind, options)
    try:
        yield engine
    finally:
        engine.close()


def _make(kind: str, options: EngineOptions) -> Engine:
    if kind == "in a child process":
        from comfystream.engine.child import ChildEngine

        return ChildEngine(options)
    from comfystream.engine.local import LocalEngine

    return LocalEngine(options)
