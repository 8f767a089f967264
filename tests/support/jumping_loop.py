"""Minutes of waiting without the wait: an event loop whose clock jumps while nothing moves on its sockets.

Sockets are real and work at their own pace; only waiting is cut short. Everything that talks must be on the one loop.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Awaitable, Callable
from typing import Any

MOST_S = 20_000.0
STILL_S = 0.02


class _Selector(selectors.DefaultSelector):
    skipped_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= STILL_S:
            return super().select(timeout)
        events = super().select(STILL_S)
        if not events:
            self.skipped_s += timeout - STILL_S
        return events


class JumpingLoop(asyncio.SelectorEventLoop):
    """`time()` is the clock that jumps."""

    def __init__(self) -> None:
        self._jumping = _Selector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return super().time() + self._jumping.skipped_s


def on_jumping_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Runs a coroutine test on such a loop, with a deadline in its time."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(MOST_S):
                await test(*args, **kwargs)

        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            runner.run(bounded())

    return run
