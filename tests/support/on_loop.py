"""Tests that are coroutines, without a plugin."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

DEADLINE_S = 60.0


def on_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Runs a coroutine test on an event loop of its own, with a deadline."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(DEADLINE_S):
                await test(*args, **kwargs)

        asyncio.run(bounded())

    return run


async def until(condition: Callable[[], Any], what: str = "condition") -> Any:
    """Poll until it holds."""
    try:
        async with asyncio.timeout(DEADLINE_S / 2):
            while not (found := condition()):  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.005)
            return found
    except TimeoutError:
        raise AssertionError(f"{what} did not come about") from None
