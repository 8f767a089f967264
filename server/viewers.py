"""Viewers: a WebRTC connection each, tied to a session. Frames and messages go both ways."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Coroutine
from typing import Any

from comfystream.frames import AudioFrame, TextCue, VideoFrame
from comfystream.session.live import LiveSession
from comfystream.session.live_claims import Claim
from comfystream.session.live_engine import EngineHost

from .control import first_generation
from .control.figures import BitRate
from .control.messages import ErrorBody, Reply
from .control.notices import notice, stats_notice
from .control.service import ControlService, refusal
from .rtc.ice import IceSettings
from .rtc.peer import Peer

__all__ = ["CONTROL_CHANNEL", "Viewers"]

_log = logging.getLogger(__name__)
CONTROL_CHANNEL = "comfystream"
FIRST_GENERATION, TEXTS = "control", "data"
CONNECT_S = 30.0
STATS_S = 1.0
MOST_AT_ONCE = 64


class _Viewer:
    """One connection. Of several that send pictures into one session, the one whose first came last is its source."""

    def __init__(self, owner: Viewers, session: LiveSession, number: int, ice: IceSettings) -> None:
        self.session = session
        self.number = number
        self._owner = owner
        self._tasks: set[asyncio.Task[None]] = set()
        self._handling = 0
        self._said = (0, 0)
        self._is_controller = False
        self._has_left = False
        self._claim: Claim | None = None
        self._connected = asyncio.Event()
        self.peer = Peer(
            ice=ice,
            on_video=self._take,
            on_audio=self._take,
            on_message=self._message,
            on_state=self._state,
        )

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """A task of this viewer; it ends with it."""
        task = asyncio.create_task(work, name=f"viewer-{self.number}-{name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("session %s: %s ended", self.session.id, task.get_name(), exc_info=error)

    async def answer(self, sdp: str, kind: str) -> tuple[str, str]:
        """Answer the offer and be there; raises what `Peer.answer` raises."""
        answer = await self.peer.answer(sdp, kind)
        self.session.attach()
        self.start(self._pump_frames(), "frames")
        self.start(self._pump_events(), "events")
        self.start(self._tell_figures(), "figures")
        self.start(self._expect(), "expect")
        return answer

    # --- in

    def _take(self, frame: VideoFrame | AudioFrame) -> None:
        if self._has_left:
            return
        if self._claim is None:
            self._claim = self.session.claim_source(f"viewer {self.number}")
        self._claim.submit(frame)

    def _state(self, state: str) -> None:
        _log.info("session %s: viewer %d is %s", self.session.id, self.number, state)
        if state == "connected":
            self._connected.set()
        if state in ("failed", "closed"):
            self._owner.leave(self)

    async def _expect(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._connected.wait()
        except TimeoutError:
            _log.info("session %s: viewer %d did not connect", self.session.id, self.number)
            self._owner.leave(self)

    def _message(self, label: str, text: str) -> None:
        if label == CONTROL_CHANNEL:
            self._is_controller = True
        elif label != FIRST_GENERATION:
            return
        if self._handling >= MOST_AT_ONCE or len(text) > self._owner.most_message or not self._is_slow_enough():
            self._say(label, _too_much(self.session))
            return
        self._handling += 1
        self.start(self._handle(label, text), "message")

    def _is_slow_enough(self) -> bool:
        """Whether this message is within what one connection may say in a second."""
        second = int(asyncio.get_running_loop().time())
        self._said = (second, self._said[1] + 1) if self._said[0] == second else (second, 1)
        return self._said[1] <= self._owner.messages_per_s

    async def _handle(self, label: str, text: str) -> None:
        who = f"viewer {self.number}"
        try:
            if label == CONTROL_CHANNEL:
                reply = await self._owner.control.handle_text(self.session, text, who)
                self.peer.send_message(label, reply.model_dump_json())
            else:
                answer = await first_generation.answer(self.session, self._owner.host, text, who)
                if answer is not None:
                    self.peer.send_message(label, json.dumps(answer))
        finally:
            self._handling -= 1

    def _say(self, label: str, reply: Reply) -> None:
        if label == CONTROL_CHANNEL:
            self.peer.send_message(label, reply.model_dump_json())

    # --- out

    async def _pump_frames(self) -> None:
        async with self.session.subscribe() as frames:
            async for frame in frames:
                match frame:
                    case VideoFrame():
                        self.peer.send_video(frame)
                    case AudioFrame():
                        self.peer.send_audio(frame)
                    case TextCue():
                        self._say_text(frame)
        self._owner.leave(self)  # the session has ended

    def _say_text(self, cue: TextCue) -> None:
        message = first_generation.text_message(cue)
        if message is not None and not self._is_controller:
            self.peer.send_message(TEXTS, json.dumps(message))

    async def _pump_events(self) -> None:
        async with self.session.events() as events:
            async for event in events:
                said = notice(event) if self._is_controller else None
                if said is not None:
                    self.peer.send_message(CONTROL_CHANNEL, said.model_dump_json())

    async def _tell_figures(self) -> None:
        rate = BitRate()
        while True:
            await asyncio.sleep(STATS_S)
            connection = self.peer.stats
            bitrate = rate.of(connection["video_out"].get("bytes", 0))
            if self._is_controller:
                said = stats_notice(await self.session.stats(), {**connection, "bitrate": bitrate})
                self.peer.send_message(CONTROL_CHANNEL, said.model_dump_json())

    # --- the end

    def gone(self) -> bool:
        """Mark it as gone; False when it was already."""
        already, self._has_left = self._has_left, True
        if self._claim is not None:
            self._claim.release()
        return not already

    async def close(self) -> None:
        """End its tasks and the connection. Idempotent."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self.peer.close()


class Viewers:
    """All viewers of a server.

    Args:
        host: the engine.
        control: handles their messages.
        ice: how they are reached.
        messages_per_s, most_message: what one of them may say: how often, and characters at a time.
    """

    def __init__(
        self, host: EngineHost, control: ControlService, ice: IceSettings, messages_per_s: int, most_message: int
    ) -> None:
        self.host = host
        self.control = control
        self.messages_per_s = messages_per_s
        self.most_message = most_message
        self._ice = ice
        self._viewers: list[_Viewer] = []
        self._closing: set[asyncio.Task[None]] = set()
        self._count = 0

    async def connect(self, session: LiveSession, sdp: str, kind: str) -> tuple[str, str]:
        """A new viewer of `session`: SDP and type of the answer.

        Raises:
            NetworkError: the offer cannot be used.
        """
        self._count += 1
        viewer = _Viewer(self, session, self._count, self._ice)
        try:
            answer = await viewer.answer(sdp, kind)
        except BaseException:
            viewer.gone()
            await viewer.close()
            raise
        self._viewers.append(viewer)
        return answer

    def leave(self, viewer: _Viewer) -> None:
        """A viewer has gone. Idempotent; nobody else notices."""
        if not viewer.gone() or viewer not in self._viewers:
            return
        self._viewers.remove(viewer)
        viewer.session.detach()
        task = asyncio.create_task(viewer.close(), name=f"viewer-{viewer.number}-close")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def sent(self) -> list[tuple[str, int, dict[str, Any]]]:
        """Of each viewer the session, its number, and the counters of the pictures that it was sent."""
        return [(viewer.session.id, viewer.number, viewer.peer.stats["video_out"]) for viewer in self._viewers]

    async def close(self) -> None:
        """All leave. Idempotent."""
        for viewer in [*self._viewers]:
            self.leave(viewer)
        if self._closing:
            await asyncio.wait(self._closing)


def _too_much(session: LiveSession) -> Reply:
    return refusal(session, None, ErrorBody(code="too_many_messages", message="messages come faster than replies"))
