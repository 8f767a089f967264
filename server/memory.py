"""What loading made is never garbage: the collector need not look at it again and again."""

from __future__ import annotations

import asyncio
import contextlib
import gc

from comfystream.allocator import give_back
from comfystream.errors import ComfyStreamError
from comfystream.session.live_engine import EngineHost

__all__ = ["keep_tidy", "settle"]

TIDY_S = 30.0


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


async def keep_tidy(host: EngineHost) -> None:
    """`settle`, and then twice a minute collect what is left and give free memory back, until it is cancelled."""
    await settle(host)
    while True:
        await asyncio.sleep(TIDY_S)
        gc.collect()
        await asyncio.to_thread(give_back)
