"""The source that somebody chose for a session, beside the viewers that may send: one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from comfystream.errors import EngineError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.session.live_claims import Claim, Claims
from comfystream.session.live_presence import Presence
from comfystream.session.live_state import SourceChanged
from comfystream.session.live_still import Still
from comfystream.session.loop_bridge import ToLoop, call, result
from comfystream.session.source_reader import SourceReader
from comfystream.session.source_state import NOBODY, SourcePlan, SourceState, SourceStatus

__all__ = ["LiveSource"]

FRAMES_AHEAD, STATES_AHEAD = 16, 64
CLOSE_S = 1.0


@dataclass(slots=True)
class _Opening:
    """A source that is being opened, and the word that nobody waits for it any more."""

    reader: SourceReader
    given_up: asyncio.Future[None]


class LiveSource:
    """Who sends into a session, what is chosen, and the thread that reads it.

    Args:
        submit: takes the frames of who has the place.
        on_event: told on the loop when somebody else has it, and how the chosen source is.
        presence: of the session, which a source may keep.
    """

    def __init__(
        self,
        submit: Callable[[VideoFrame | AudioFrame], None],
        on_event: Callable[[SourceChanged], None],
        presence: Presence,
    ) -> None:
        self._claims = Claims(submit, lambda who: self._say(self._status))
        self._on_event = on_event
        self._presence = presence
        self._is_keeping = False
        self._status = NOBODY
        self._said = SourceChanged("")
        self._reader: SourceReader | None = None
        self._claim: Claim | None = None
        self._opening: _Opening | None = None
        self._leaving: set[SourceReader] = set()
        self._is_closed = False
        self._still = Still(self._claim_frame)

    @property
    def status(self) -> SourceStatus:
        """What is chosen and how it is."""
        return self._status

    def claim(self, who: str, *, is_chosen: bool = False) -> Claim:
        """A place in the line of those who send."""
        return self._claims.make(who, is_chosen=is_chosen)

    @property
    def sender(self) -> str:
        """Who sends frames at the moment; empty for nobody."""
        return self._claims.holder.who if self._claims.holder is not None else ""

    @property
    def is_active(self) -> bool:
        """Whether frames come from a chosen source, or may come."""
        return self._opening is not None or self._status.state.is_active

    async def choose(self, plan: SourcePlan | None, *, is_keeping: bool = False) -> None:
        """Put another source in the place of the one that is there, which goes on until the new one is open.

        Args:
            plan: what to read; None leaves it to the viewers.
            is_keeping: the session goes on without viewers while it is there.

        Raises:
            MediaError, NetworkError: it cannot be opened; nothing has changed.
            EngineError: somebody chose another one meanwhile, or the session has ended.
        """
        self._give_up_opening()
        if self._is_closed:
            raise EngineError("the session has ended", code="session_ended", hint="start a new one")
        if plan is None:
            self._replace(None, NOBODY)
        elif plan.open is None:
            self._replace(None, _status(plan, SourceState.RUNNING))
        else:
            await self._open(plan)
        self._is_keeping = is_keeping
        self._settle()

    async def _open(self, plan: SourcePlan) -> None:
        reader = self._start(plan)
        opening = self._opening = _Opening(reader, asyncio.get_running_loop().create_future())
        self._say(_status(plan, SourceState.OPENING))
        opened = asyncio.ensure_future(result(reader.opened))
        opened.add_done_callback(lambda done: done.cancelled() or done.exception())  # heard, even if given up
        try:
            await asyncio.wait({opened, opening.given_up}, return_when=asyncio.FIRST_COMPLETED)
            if opening.given_up.done():
                raise EngineError(f"{plan.name} was given up while it was opened", code="superseded")
            opened.result()
        except BaseException:
            self._give_up(opening)
            raise
        finally:
            opened.cancel()
        self._opening = None
        first = SourceState.OPENING if plan.is_awaited else SourceState.RUNNING
        self._replace(reader, _status(plan, first))
        reader.go()

    def _start(self, plan: SourcePlan) -> SourceReader:
        loop = asyncio.get_running_loop()
        frames: ToLoop[VideoFrame | AudioFrame] = ToLoop(loop, lambda frame: self._take(reader, frame), FRAMES_AHEAD)
        states: ToLoop[tuple[SourceState, str]] = ToLoop(loop, lambda told: self._hear(reader, *told), STATES_AHEAD)
        reader = SourceReader(plan, frames.put, lambda state, reason: states.put((state, reason)))
        reader.start()
        return reader

    def _take(self, reader: SourceReader, frame: VideoFrame | AudioFrame) -> None:
        if reader is self._reader:
            if isinstance(frame, VideoFrame):
                self._still.note(frame)
            self._claim_frame(frame)

    def _claim_frame(self, frame: VideoFrame | AudioFrame) -> None:
        if self._claim is not None:
            self._claim.submit(frame)

    def show_again(self) -> None:
        """What is made of pictures has changed: if the source is over, its last one is shown anew."""
        self._still.again()

    def _hear(self, reader: SourceReader, state: SourceState, reason: str) -> None:
        if reader is self._reader and (state, reason) != (self._status.state, self._status.reason):
            self._status = replace(self._status, state=state, reason=reason)
            if state in (SourceState.ENDED, SourceState.FAILED):
                self._still.begin()
            self._say(self._status)

    def _say(self, status: SourceStatus) -> None:
        self._settle()
        event = SourceChanged(self.sender, status)
        if event != self._said:
            self._said = event
            self._on_event(event)

    def _settle(self) -> None:
        self._presence.keep("source", self._is_keeping and self.is_active)

    def _replace(self, reader: SourceReader | None, status: SourceStatus) -> None:
        """Another one is in force; nobody has the place in between."""
        self._still.end()
        old_reader, self._reader = self._reader, reader
        self._status = status
        old_claim = self._claim
        self._claim = self.claim(status.name, is_chosen=True) if status is not NOBODY else None
        if old_reader is not None:
            self._leave(old_reader)
        if old_claim is not None:
            old_claim.release()
        self._say(status)

    def _give_up_opening(self) -> None:
        if self._opening is not None:
            self._give_up(self._opening)

    def _give_up(self, opening: _Opening) -> None:
        self._leave(opening.reader)
        if not opening.given_up.done():
            opening.given_up.set_result(None)
        if self._opening is opening:
            self._opening = None
            self._say(self._status)

    def _leave(self, reader: SourceReader) -> None:
        reader.stop()
        self._leaving = {one for one in self._leaving if one.is_alive} | {reader}

    async def close(self) -> None:
        """Let go of the source. Waits a moment for its thread; one that waits for the network ends by itself."""
        self._is_closed = True
        self._still.end()
        self._give_up_opening()
        if self._reader is not None:
            self._leave(self._reader)
        await asyncio.gather(*(call(reader.join, CLOSE_S) for reader in self._leaving))


def _status(plan: SourcePlan, state: SourceState) -> SourceStatus:
    return SourceStatus(plan.type, plan.name, state)
