"""Viewers: a WebRTC connection each, tied to a session. Frames and messages go both ways."""

from __future__ import annotations

import asyncio
import json

from comfystream.frames import AudioFrame, TextCue, VideoFrame
from comfystream.session.live import LiveSession
from comfystream.session.live_engine import EngineHost

from .connection import Connection, Connections
from .control import first_generation
from .control.figures import BitRate
from .control.messages import ErrorBody, Reply
from .control.notices import notice, stats_notice
from .control.service import ControlService, refusal

__all__ = ["CONTROL_CHANNEL", "Viewers"]

CONTROL_CHANNEL = "comfystream"
FIRST_GENERATION, TEXTS = "control", "data"
STATS_S = 1.0
MOST_AT_ONCE = 64


class _Viewer(Connection):
    """A browser or program that sends pictures, sees the result and speaks over data channels."""

    def __init__(self, owner: Viewers, session: LiveSession) -> None:
        self._viewers = owner
        self._handling = 0
        self._said = (0, 0)
        self._is_controller = False
        super().__init__(owner.connections, session)

    def begin(self) -> None:
        """Start what it hears and sees."""
        self.start(self._pump_frames(), "frames")
        self.start(self._pump_events(), "events")
        self.start(self._tell_figures(), "figures")

    def _message(self, label: str, text: str) -> None:
        if label == CONTROL_CHANNEL:
            self._is_controller = True
        elif label != FIRST_GENERATION:
            return
        if self._handling >= MOST_AT_ONCE or len(text) > self._viewers.most_message or not self._is_slow_enough():
            self._say(label, _too_much(self.session))
            return
        self._handling += 1
        self.start(self._handle(label, text), "message")

    def _is_slow_enough(self) -> bool:
        """Whether this message is within what one connection may say in a second."""
        second = int(asyncio.get_running_loop().time())
        self._said = (second, self._said[1] + 1) if self._said[0] == second else (second, 1)
        return self._said[1] <= self._viewers.messages_per_s

    async def _handle(self, label: str, text: str) -> None:
        who = self.name
        try:
            if label == CONTROL_CHANNEL:
                reply = await self._viewers.control.handle_text(self.session, text, who)
                self.peer.send_message(label, reply.model_dump_json())
            else:
                answer = await first_generation.answer(self.session, self._viewers.host, text, who)
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


class Viewers:
    """Takes viewers in.

    Args:
        host: the engine.
        control: handles their messages.
        connections: where they are kept.
        messages_per_s, most_message: what one of them may say: how often, and characters at a time.
    """

    def __init__(
        self,
        host: EngineHost,
        control: ControlService,
        connections: Connections,
        messages_per_s: int,
        most_message: int,
    ) -> None:
        self.host = host
        self.control = control
        self.connections = connections
        self.messages_per_s = messages_per_s
        self.most_message = most_message

    async def connect(self, session: LiveSession, sdp: str, kind: str) -> tuple[Connection, str, str]:
        """A new viewer of `session`: the connection, SDP and type of the answer.

        Raises:
            NetworkError: the offer cannot be used.
            TooManyViewers: no room.
        """
        self.connections.expect_viewer()
        viewer = _Viewer(self, session)
        return viewer, *await viewer.answer(sdp, kind)


def _too_much(session: LiveSession) -> Reply:
    return refusal(session, None, ErrorBody(code="too_many_messages", message="messages come faster than replies"))
