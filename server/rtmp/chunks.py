"""Messages in chunks, as RTMP interleaves them (Adobe, "RTMP specification 1.0", section 5.3)."""

from __future__ import annotations

from dataclasses import dataclass, field

from comfystream.errors import NetworkError

__all__ = ["ChunkReader", "ChunkWriter", "Message"]

FIRST_CHUNK = 128
MOST_CHUNK = 1 << 20
MOST_MESSAGE = 8 << 20  # a key frame of 4K at a very high rate
MOST_WAITING = 16 << 20
MOST_STREAMS = 32
_LONG = 0xFFFFFF
_HEADER = (11, 7, 3, 0)
_WRAP = 1 << 32


@dataclass(frozen=True, slots=True)
class Message:
    """One message: `time` is in milliseconds and wraps at 32 bits."""

    kind: int
    stream: int
    time: int
    data: bytes


@dataclass(slots=True)
class _Stream:
    """What the headers of a chunk stream leave out is as it was before."""

    time: int = 0
    step: int = 0
    length: int = 0
    kind: int = 0
    stream: int = 0
    is_long: bool = False
    has_begun: bool = False
    parts: bytearray = field(default_factory=bytearray)


class ChunkReader:
    """Chunks to messages.

    Attributes:
        size: largest payload of a chunk; the peer changes it.
        taken: bytes so far.
    """

    def __init__(self) -> None:
        self.size = FIRST_CHUNK
        self.taken = 0
        self._data = bytearray()
        self._streams: dict[int, _Stream] = {}

    def feed(self, data: bytes) -> None:
        """Bytes have come."""
        self._data += data
        self.taken += len(data)

    def next(self) -> Message | None:
        """The next whole message, None when bytes are missing.

        Raises:
            NetworkError: these are no chunks, or they are larger than anybody needs.
        """
        while (read := self._chunk()) is not None:
            if read.parts and len(read.parts) == read.length or not read.length:
                message = Message(read.kind, read.stream, read.time, bytes(read.parts))
                read.parts = bytearray()
                return message
        return None

    def resize(self, size: int) -> None:
        """The peer says how large its chunks are from now on.

        Raises:
            NetworkError: that is no size.
        """
        if not 1 <= size <= MOST_CHUNK:
            raise NetworkError(f"a chunk of {size} bytes", code="bad_chunk")
        self.size = size

    def forget(self, id: int) -> None:
        """The peer gives up the message that it began."""
        if id in self._streams:
            self._streams[id].parts = bytearray()

    def _chunk(self) -> _Stream | None:
        """Read one chunk; None, and nothing is read, when it is not all there."""
        head = self._basic()
        if head is None:
            return None
        form, id, at = head
        stream = self._streams.get(id)
        if stream is None:
            if len(self._streams) >= MOST_STREAMS:
                raise NetworkError("too many chunk streams", code="bad_chunk")
            stream = _Stream()
        length_at = at + _HEADER[form]
        if len(self._data) < length_at:
            return None
        header = bytes(self._data[at:length_at])
        time = int.from_bytes(header[:3], "big") if form < 3 else 0
        is_long = time == _LONG if form < 3 else stream.is_long
        begin = length_at + (4 if is_long else 0)
        length = int.from_bytes(header[3:6], "big") if form < 2 else stream.length
        if form == 3 and not stream.has_begun:
            raise NetworkError("a chunk refers to one that never was", code="bad_chunk")
        if length > MOST_MESSAGE:
            raise NetworkError(f"a message of {length} bytes", code="message_too_large")
        held = len(stream.parts) if form == 3 else 0
        end = begin + min(self.size, length - held)
        if len(self._data) < end:
            return None
        if is_long:
            time = int.from_bytes(self._data[length_at:begin], "big")
        self._streams[id] = stream
        self._begin(stream, form, header, time, is_long)
        stream.parts += self._data[begin:end]
        del self._data[:end]
        if sum(len(one.parts) for one in self._streams.values()) > MOST_WAITING:
            raise NetworkError("too many messages are not complete", code="message_too_large")
        return stream

    def _basic(self) -> tuple[int, int, int] | None:
        """Form, chunk stream and length of the basic header (5.3.1.1)."""
        data = self._data
        if not data:
            return None
        form, id = data[0] >> 6, data[0] & 0x3F
        if id > 1:
            return form, id, 1
        if len(data) < 2 + id:
            return None
        return form, 64 + data[1] + (data[2] << 8 if id else 0), 2 + id

    def _begin(self, stream: _Stream, form: int, header: bytes, time: int, is_long: bool) -> None:
        """What the header of a chunk says (5.3.1.2)."""
        if form == 3:
            if not stream.parts:
                stream.time = (stream.time + stream.step) % _WRAP
            return
        stream.parts = bytearray()
        stream.is_long, stream.has_begun = is_long, True
        stream.step = 0 if form == 0 else time
        stream.time = time if form == 0 else (stream.time + time) % _WRAP
        if form < 2:
            stream.length, stream.kind = int.from_bytes(header[3:6], "big"), header[6]
        if form == 0:
            stream.stream = int.from_bytes(header[7:11], "little")


class ChunkWriter:
    """Messages to chunks, each with a full header."""

    def __init__(self) -> None:
        self.size = FIRST_CHUNK

    def encode(self, message: Message, id: int = 3) -> bytes:
        """One message on chunk stream `id`, 2 to 63."""
        time = min(message.time, _LONG)
        long = message.time.to_bytes(4, "big") if time == _LONG else b""
        head = time.to_bytes(3, "big") + len(message.data).to_bytes(3, "big") + bytes([message.kind])
        out = bytearray(bytes([id]) + head + message.stream.to_bytes(4, "little") + long)
        for at in range(0, max(1, len(message.data)), self.size):
            if at:
                out += bytes([0xC0 | id]) + long
            out += message.data[at : at + self.size]
        return bytes(out)
