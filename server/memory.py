"""What loading made is never garbage: the collector need not look at it again and again."""

from __future__ import annotations

import contextlib
import gc

from comfystream.errors import ComfyStreamError
from comfystream.session.live_engine import EngineHost

__all__ = ["settle"]


async def settle(host: EngineHost) -> None:
    """Once the engine and its node classes are there, set all that lives aside from the collector.

    A viewer's connection is a knot of objects that only a full collection unties, and it holds codecs of several MB.
    The collector makes a full one when a quarter as many objects as live have come since: with the hundred thousand
    that modules and node classes are, that is after dozens of viewers. Without them it is soon, and takes a few
    milliseconds in place of a hundred.
    """
    with contextlib.suppress(ComfyStreamError):  # without an engine there is less to set aside
        await host.get()
    gc.collect()
    gc.freeze()
    gc.collect()  # counts what lives anew, which is next to nothing now
