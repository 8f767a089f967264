"""The task that owns a session: it does what is asked, one after the other, in the order it was asked.

What takes long is withdrawn when an order comes in that leaves nothing of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from comfystream.engine.protocol import Cancelled
from comfystream.errors import BusyError, ComfyStreamError, EngineError
from comfystream.session.live_state import Change
from comfystream.workflow.edits import Patch

__all__ = ["Orders"]

_log = logging.getLogger(__name__)
MOST_WAITING = 64
PATIENCE_S = 1.0
"""What is quicker than this is finished, even where something newer waits: a slider has to move while it is turned."""

AGAIN_S = 0.1

T = TypeVar("T")
Work = Callable[[], Awaitable[Change]]


@dataclass(slots=True, eq=False)
class _Order:
    """Patches wait as data, so that those that queue up become one revision; anything else waits as `work`."""

    answer: asyncio.Future[Change]
    work: Work | None = None
    patches: tuple[Patch, ...] = ()
    who: str = ""
    is_edit: bool = False

    def leaves_nothing_of(self, older: _Order) -> bool:
        """Whether the revision that comes of this one is the same without the older one."""
        if self.work is not None:
            return self.is_edit and (older.is_edit or older.work is None)
        return older.work is None and _places(older.patches) <= _places(self.patches)


class Orders:
    """Takes orders and answers them.

    Args:
        session: id, for messages.
        patch: does patches; called with those of all orders that waited, and who asked last.
    """

    def __init__(self, session: str, patch: Callable[[Sequence[Patch], str], Awaitable[Change]]) -> None:
        self._session = session
        self._patch = patch
        self._waiting: asyncio.Queue[_Order] = asyncio.Queue(MOST_WAITING)
        self._is_closed = False
        self._unanswered: list[_Order] = []
        self._current: _Order | None = None
        self._overtaken = asyncio.Event()
        self._owner = asyncio.create_task(self._work_off(), name=f"session-{session}")

    async def do(self, work: Work, *, is_edit: bool = False) -> Change:
        """Do `work` when it is its turn.

        Args:
            work: what to do.
            is_edit: whether it replaces the whole workflow.

        Raises:
            ComfyStreamError: what `work` raised.
            BusyError: too many orders wait.
            EngineError: the session has ended.
        """
        return await self._ask(_Order(_new_answer(), work, is_edit=is_edit))

    async def patch(self, patches: Sequence[Patch], who: str) -> Change:
        """Do patches, together with others that wait; raises what `do` raises."""
        return await self._ask(_Order(_new_answer(), patches=tuple(patches), who=who))

    async def _ask(self, order: _Order) -> Change:
        if self._is_closed:
            raise self._ended()
        try:
            self._waiting.put_nowait(order)
        except asyncio.QueueFull:
            raise BusyError(
                f"{MOST_WAITING} edits wait already", code="too_many_edits", hint="wait for the replies"
            ) from None
        self._unanswered.append(order)
        order.answer.add_done_callback(lambda done: self._unanswered.remove(order))
        if self._current is not None and order.leaves_nothing_of(self._current):
            self._overtaken.set()
        return await order.answer

    async def unless_overtaken(self, work: Awaitable[T], withdraw: Callable[[], Awaitable[bool]]) -> T:
        """The result of a part of an order that may take long; `withdraw` is called once that is pointless.

        `withdraw` says whether there was anything; while there is not (the engine still starts), it is called again. It
        has ended when this does, so it does not reach the next order.

        Raises:
            Exception: what `work` raised, after `withdraw` too.
        """
        doing = asyncio.ensure_future(work)
        overtaken = asyncio.create_task(self._is_pointless(), name=f"overtaken-{self._session}")
        try:
            await asyncio.wait([doing, overtaken], return_when=asyncio.FIRST_COMPLETED)
            while not doing.done() and not await _is_withdrawn(withdraw):
                await asyncio.wait([doing], timeout=AGAIN_S)
            return await doing
        finally:
            overtaken.cancel()
            doing.cancel()
            await asyncio.wait([doing])

    async def _is_pointless(self) -> None:
        await asyncio.sleep(PATIENCE_S)
        await self._overtaken.wait()

    async def _work_off(self) -> None:
        held: _Order | None = None
        while True:
            order = held or await self._waiting.get()
            held = None
            if order.work is not None:
                await self._settle([order], order.work)
                continue
            together = [order]
            while held is None and not self._waiting.empty():
                following = self._waiting.get_nowait()
                if following.work is None:
                    together.append(following)
                else:
                    held = following
            try:
                await self._patch_together(together)
            except asyncio.CancelledError:
                _fail([*together, *([held] if held is not None else [])], self._ended())
                raise

    async def _patch_together(self, orders: list[_Order]) -> None:
        """Patches that queued up make one revision; if that does not work out, each is tried alone."""
        patches = [patch for order in orders for patch in order.patches]
        is_last = len(orders) == 1
        if not await self._settle(orders, lambda: self._patch(patches, orders[-1].who), is_last=is_last):
            for order in orders:
                await self._patch_together([order])

    async def _settle(self, orders: list[_Order], work: Work, *, is_last: bool = True) -> bool:
        """Do the work and answer. False when it failed and that was not the last try."""
        self._begin(orders)
        try:
            change = await work()
        except asyncio.CancelledError:
            _fail(orders, self._ended())
            raise
        except Cancelled as error:
            _fail(orders, error)
            return True
        except ComfyStreamError as error:
            if is_last:
                _fail(orders, error)
            return is_last
        except Exception as error:  # noqa: BLE001 - task scope: a defect ends one edit, not the session
            _log.exception("session %s: an edit met a defect", self._session)
            words = f"{type(error).__name__}: {error}"
            _fail(orders, EngineError(words, code="defect", hint="this is a defect of ComfyStream; see the log"))
            return True
        for order in orders:
            if not order.answer.done():
                order.answer.set_result(change)
        return True

    def _begin(self, orders: list[_Order]) -> None:
        """What is done now, and whether something that waits already leaves nothing of it."""
        patches = tuple(patch for order in orders for patch in order.patches)
        self._current = replace(orders[-1], patches=patches)
        self._overtaken.clear()
        newer = [one for one in self._unanswered if one not in orders and not one.answer.done()]
        if any(one.leaves_nothing_of(self._current) for one in newer):
            self._overtaken.set()

    def _ended(self) -> EngineError:
        return EngineError(f"session {self._session} has ended", code="session_ended", hint="start a new one")

    async def close(self) -> None:
        """Do nothing more; what waits gets an error. Idempotent."""
        self._is_closed = True
        self._owner.cancel()
        await asyncio.wait([self._owner])
        while not self._waiting.empty():
            _fail([self._waiting.get_nowait()], self._ended())


async def _is_withdrawn(withdraw: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return await withdraw()
    except ComfyStreamError:  # the engine is gone; `work` hears that, too, or waits for the next one
        return False


def _new_answer() -> asyncio.Future[Change]:
    return asyncio.get_running_loop().create_future()


def _places(patches: Sequence[Patch]) -> set[tuple[str, str]]:
    return {(patch.node, patch.input) for patch in patches}


def _fail(orders: Sequence[_Order], error: ComfyStreamError) -> None:
    for order in orders:
        if not order.answer.done():
            order.answer.set_exception(error)
