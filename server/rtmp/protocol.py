"""The receiving side of RTMP, without sockets: bytes in, events and bytes out.

Adobe, "RTMP specification 1.0": the plain handshake (5.2), control messages (5.4), commands (7.2).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from comfystream.errors import NetworkError

from . import amf
from .chunks import ChunkReader, ChunkWriter, Message

__all__ = ["Media", "Publish", "RtmpServer", "Unpublish"]

_VERSION, _HANDSHAKE = 3, 1536
_SET_CHUNK, _ABORT, _ACK, _USER, _WINDOW, _BANDWIDTH = 1, 2, 3, 4, 5, 6
_AUDIO, _VIDEO, _COMMAND3, _COMMAND = 8, 9, 17, 20
_STREAM_BEGIN, _PING, _PONG = 0, 6, 7
_OUR_CHUNK, _OUR_WINDOW = 4096, 2_500_000
_STREAM = 1


@dataclass(frozen=True, slots=True)
class Publish:
    """Somebody wants to publish; `app` and `name` come with the queries that stood behind them."""

    app: str
    name: str


@dataclass(frozen=True, slots=True)
class Unpublish:
    """The publisher has ended the stream."""


@dataclass(frozen=True, slots=True)
class Media:
    """The body of an FLV tag; `time` in milliseconds, wrapping at 32 bits."""

    is_video: bool
    time: int
    data: bytes


Event = Publish | Unpublish | Media


class _Stage(StrEnum):
    HELLO = "hello"  # C0 and C1 are awaited
    ECHO = "echo"  # C2 is awaited
    COMMANDS = "commands"
    ASKED = "asked"  # a publish waits for its answer
    PUBLISHING = "publishing"


class RtmpServer:
    """One connection. `receive` takes bytes and gives events, `take_bytes` has what is to be sent.

    A `Publish` is to be answered with `accept` or `refuse`.
    """

    def __init__(self) -> None:
        self._stage = _Stage.HELLO
        self._hello = bytearray()
        self._reader, self._writer = ChunkReader(), ChunkWriter()
        self._out = bytearray()
        self._app = ""
        self._window = _OUR_WINDOW
        self._told = 0

    @property
    def is_publishing(self) -> bool:
        """Whether a publish was accepted and has not ended."""
        return self._stage is _Stage.PUBLISHING

    def take_bytes(self) -> bytes:
        """What is to be sent now."""
        data, self._out = bytes(self._out), bytearray()
        return data

    def receive(self, data: bytes) -> Iterator[Event]:
        """Bytes have come; what they say.

        Raises:
            NetworkError: this is no RTMP; the connection is to be closed.
        """
        if self._stage in (_Stage.HELLO, _Stage.ECHO):
            data = self._shake_hands(data)
        self._reader.feed(data)
        while (message := self._reader.next()) is not None:
            yield from self._handle(message)
        if self._reader.taken - self._told >= self._window // 2:
            self._told = self._reader.taken
            self._control(_ACK, (self._told % (1 << 32)).to_bytes(4, "big"))

    # --- handshake

    def _shake_hands(self, data: bytes) -> bytes:
        """What is left after it."""
        self._hello += data
        if self._hello[:1] not in (b"", bytes([_VERSION])):
            raise NetworkError("this is not RTMP", code="not_rtmp")
        if self._stage is _Stage.HELLO and len(self._hello) > _HANDSHAKE:
            theirs = bytes(self._hello[1 : 1 + _HANDSHAKE])
            ours = bytes(8) + os.urandom(_HANDSHAKE - 8)
            self._out += bytes([_VERSION]) + ours + theirs
            self._stage = _Stage.ECHO
        if self._stage is _Stage.ECHO and len(self._hello) > 2 * _HANDSHAKE:
            rest = bytes(self._hello[1 + 2 * _HANDSHAKE :])
            self._hello = bytearray()
            self._stage = _Stage.COMMANDS
            return rest
        return b""

    # --- messages

    def _handle(self, message: Message) -> Iterator[Event]:
        data = message.data
        match message.kind:
            case 1 if len(data) >= 4:
                self._reader.resize(int.from_bytes(data[:4], "big"))
            case 2 if len(data) >= 4:
                self._reader.forget(int.from_bytes(data[:4], "big"))
            case 4 if len(data) >= 6 and int.from_bytes(data[:2], "big") == _PING:
                self._control(_USER, _PONG.to_bytes(2, "big") + data[2:6])
            case 5 if len(data) >= 4:
                self._window = max(_OUR_CHUNK, int.from_bytes(data[:4], "big"))
            case 8 | 9 if self.is_publishing and data:
                yield Media(message.kind == _VIDEO, message.time, data)
            case 17 | 20:
                values = amf.decode_all(data[1:] if message.kind == _COMMAND3 else data)
                yield from self._command(values, message.stream)

    def _command(self, values: list[amf.Value], stream: int) -> Iterator[Event]:
        name, number = (*values[:2], None, None)[:2]
        transaction = number if isinstance(number, float) else 0.0
        texts = [value for value in values[3:] if isinstance(value, str)]
        match name:
            case "connect":
                about = values[2] if len(values) > 2 else None
                app = about.get("app") if isinstance(about, dict) else None
                self._app = app if isinstance(app, str) else ""
                self._welcome(transaction)
            case "createStream":
                self._say(amf.encode("_result", transaction, None, _STREAM))
            case "publish":
                if self._stage is not _Stage.COMMANDS:
                    self._status(_STREAM, "error", "NetStream.Publish.BadName", "this connection publishes already")
                    return
                self._stage = _Stage.ASKED
                yield Publish(self._app, texts[0] if texts else "")
            case "play" | "play2":
                self._status(_STREAM, "error", "NetStream.Play.StreamNotFound", "this server only takes streams")
            case "deleteStream" | "closeStream" | "FCUnpublish":
                if self.is_publishing:
                    self._stage = _Stage.COMMANDS
                    self._status(_STREAM, "status", "NetStream.Unpublish.Success", "ended")
                    yield Unpublish()
            case "releaseStream" | "FCPublish" | "_checkbw":
                self._say(amf.encode("_result", transaction, None, None))

    def _welcome(self, transaction: float) -> None:
        self._control(_WINDOW, _OUR_WINDOW.to_bytes(4, "big"))
        self._control(_BANDWIDTH, _OUR_WINDOW.to_bytes(4, "big") + b"\x02")
        self._control(_SET_CHUNK, _OUR_CHUNK.to_bytes(4, "big"))
        self._writer.size = _OUR_CHUNK
        server = {
            "fmsVer": "FMS/3,5,7,7009",
            "capabilities": 31,
            "fourCcList": ["av01", "hvc1", "avc1", "Opus", "mp4a"],
        }
        status = {
            "level": "status",
            "code": "NetConnection.Connect.Success",
            "description": "connected",
            "objectEncoding": 0,
        }
        self._say(amf.encode("_result", transaction, server, status))

    def accept(self) -> None:
        """The publish that was asked for may begin."""
        self._stage = _Stage.PUBLISHING
        self._control(_USER, _STREAM_BEGIN.to_bytes(2, "big") + _STREAM.to_bytes(4, "big"))
        self._status(_STREAM, "status", "NetStream.Publish.Start", "publishing")

    def refuse(self, why: str) -> None:
        """The publish that was asked for may not begin; OBS shows why."""
        self._stage = _Stage.COMMANDS
        self._status(_STREAM, "error", "NetStream.Publish.BadName", why)

    def end(self, why: str) -> None:
        """The publish ends from here."""
        if self.is_publishing:
            self._stage = _Stage.COMMANDS
            self._status(_STREAM, "status", "NetStream.Unpublish.Success", why)

    # --- out

    def _control(self, kind: int, data: bytes) -> None:
        self._out += self._writer.encode(Message(kind, 0, 0, data), 2)

    def _say(self, data: bytes, stream: int = 0) -> None:
        self._out += self._writer.encode(Message(_COMMAND, stream, 0, data))

    def _status(self, stream: int, level: str, code: str, description: str) -> None:
        about = {"level": level, "code": code, "description": description}
        self._say(amf.encode("onStatus", 0, None, about), stream)
