"""RTMP without sockets: chunks, values, commands, and anything that a peer may send instead."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfystream.errors import NetworkError
from comfystream_server.rtmp import amf
from comfystream_server.rtmp.chunks import MOST_MESSAGE, ChunkReader, ChunkWriter, Message
from comfystream_server.rtmp.protocol import Media, Publish, RtmpServer, Unpublish
from comfystream_server.rtmp.tags import read_audio, read_video

messages = st.builds(
    Message, st.integers(1, 255), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.binary(max_size=700)
)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4),
    max_leaves=12,
)

kinds = st.sampled_from([1, 2, 3, 4, 5, 8, 9, 17, 18, 20])


@given(st.lists(st.tuples(messages, st.integers(2, 20)), max_size=8), st.integers(1, 300), st.integers(1, 500))
def test_messages_come_out_of_chunks_as_they_went_in(sent: list[Any], size: int, step: int) -> None:
    writer, reader = ChunkWriter(), ChunkReader()
    writer.size = reader.size = size
    data = b"".join(writer.encode(message, id) for message, id in sent)
    got = []
    for at in range(0, len(data), step):
        reader.feed(data[at : at + step])
        while (message := reader.next()) is not None:
            got.append(message)
    assert got == [message for message, _ in sent]


def test_interleaved_chunks_and_short_headers() -> None:
    """Two streams in turns, headers of all four forms; the worked example of 5.3.2 has the same shape."""
    reader = ChunkReader()
    reader.size = 4
    first = bytes([0x04]) + bytes([0, 3, 232, 0, 0, 6, 8]) + (1).to_bytes(4, "little") + b"abcd"
    other = bytes([0x06]) + bytes([0, 0, 5, 0, 0, 2, 9]) + (1).to_bytes(4, "little") + b"XY"
    rest = bytes([0xC4]) + b"ef"
    same_length = bytes([0x84]) + bytes([0, 0, 20]) + b"ghij" + bytes([0xC4]) + b"kl"
    again = bytes([0xC4]) + b"mnop" + bytes([0xC4]) + b"qr"
    other_length = bytes([0x44]) + bytes([0, 0, 1, 0, 0, 1, 8]) + b"s"
    reader.feed(first + other + rest + same_length + again + other_length)
    got = []
    while (message := reader.next()) is not None:
        got.append((message.kind, message.time, message.data))
    assert got == [
        (9, 5, b"XY"),
        (8, 1000, b"abcdef"),
        (8, 1020, b"ghijkl"),
        (8, 1040, b"mnopqr"),
        (8, 1041, b"s"),
    ]


@given(st.lists(values, max_size=5))
def test_values_come_back(given_values: list[Any]) -> None:
    assert amf.decode_all(amf.encode(*given_values)) == given_values


@given(st.binary(max_size=300))
def test_any_bytes_are_values_or_an_error(data: bytes) -> None:
    with contextlib.suppress(NetworkError):
        amf.decode_all(data)
    read_video(data)
    read_audio(data)


@pytest.mark.parametrize("nest", [b"\x03\x00\x01a", b"\x0a\x00\x00\x00\x01", b"\x08\x00\x00\x00\x00\x00\x01a"])
def test_deep_nesting_is_refused(nest: bytes) -> None:
    with pytest.raises(NetworkError):
        amf.decode_all(nest * 5000)
    with pytest.raises(NetworkError):
        amf.decode_all(b"\x0a\xff\xff\xff\xff" + b"\x05" * 5000)


HELLO = b"\x03" + bytes(1536) + bytes(1536)


class Client:
    """What OBS says first."""

    def __init__(self) -> None:
        self.server = RtmpServer()
        self.events = list(self.server.receive(HELLO))
        self.heard = ChunkReader()
        self.heard.feed(self.server.take_bytes()[1 + 2 * 1536 :])
        self.writer = ChunkWriter()

    def send(self, kind: int, data: bytes, stream: int = 1, time: int = 0) -> list[Any]:
        return list(self.server.receive(self.writer.encode(Message(kind, stream, time, data))))

    def command(self, *values: object) -> list[Any]:
        return self.send(20, amf.encode(*values))

    def answers(self) -> list[list[Any]]:
        self.heard.feed(self.server.take_bytes())
        found = []
        while (message := self.heard.next()) is not None:
            if message.kind == 1:
                self.heard.resize(int.from_bytes(message.data, "big"))
            elif message.kind == 20:
                found.append(amf.decode_all(message.data))
        return found

    def publish(self, name: str = "cam") -> list[Any]:
        self.command("connect", 1, {"app": "live", "tcUrl": "rtmp://x/live"})
        self.command("releaseStream", 2, None, name)
        self.command("FCPublish", 3, None, name)
        self.command("createStream", 4, None)
        return self.command("publish", 5, None, name, "live")


def test_a_publish_from_the_first_byte_to_the_last() -> None:
    client = Client()
    assert client.publish("cam?token=x") == [Publish("live", "cam?token=x")]
    assert client.send(9, b"\x17\x01\x00\x00\x00abc") == []  # not before it was accepted
    answers = client.answers()
    assert answers[0][3]["code"] == "NetConnection.Connect.Success"
    assert [answer[0:2] for answer in answers[1:]] == [["_result", 2.0], ["_result", 3.0], ["_result", 4.0]]
    client.server.accept()
    assert client.answers()[0][3]["code"] == "NetStream.Publish.Start"
    assert client.send(9, b"\x17\x01\x00\x00\x00abc", time=40) == [Media(True, 40, b"\x17\x01\x00\x00\x00abc")]
    assert client.send(8, b"\xaf\x01abc", time=2**32 - 1) == [Media(False, 2**32 - 1, b"\xaf\x01abc")]
    assert client.command("deleteStream", 6, None, 1) == [Unpublish()]
    assert client.publish() == [Publish("live", "cam")]


def test_a_refusal_says_why() -> None:
    client = Client()
    client.publish()
    client.answers()
    client.server.refuse("the token is wrong")
    said = client.answers()[0][3]
    assert (said["level"], said["code"], said["description"]) == (
        "error",
        "NetStream.Publish.BadName",
        "the token is wrong",
    )
    assert client.send(9, b"\x17\x01\x00\x00\x00abc") == []


def test_what_comes_is_acknowledged() -> None:
    client = Client()
    client.publish()
    client.server.accept()
    client.send(5, (100_000).to_bytes(4, "big"))
    client.server.take_bytes()
    client.send(9, bytes(60_000))
    assert b"\x00\x00\x04\x03\x00\x00\x00\x00" in client.server.take_bytes()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        HELLO + bytes([0x03, 0, 0, 0]) + (MOST_MESSAGE + 1).to_bytes(3, "big") + bytes([20, 0, 0, 0, 0]),
        HELLO + bytes([0xC3, 1, 2, 3]),
        HELLO + ChunkWriter().encode(Message(1, 0, 0, bytes(4))),
        HELLO + ChunkWriter().encode(Message(1, 0, 0, b"\x7f\xff\xff\xff")),
        HELLO + b"".join(ChunkWriter().encode(Message(8, 0, 0, b"x"), id) for id in range(2, 60)),
    ],
)
def test_what_is_no_rtmp_ends_the_connection(data: bytes) -> None:
    with pytest.raises(NetworkError):
        list(RtmpServer().receive(data))


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=400), max_size=6))
def test_any_bytes_after_the_handshake_are_events_or_an_error(parts: list[bytes]) -> None:
    server = RtmpServer()
    with contextlib.suppress(NetworkError):
        for part in (HELLO, *parts):
            for event in server.receive(part):
                if isinstance(event, Publish):
                    server.accept()
    server.take_bytes()


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.sampled_from([1, 2, 3, 4, 5, 8, 9, 17, 18, 20]), st.lists(values, max_size=4)), max_size=6)
)
def test_any_messages_are_events_or_an_error(sent: list[Any]) -> None:
    client = Client()
    with contextlib.suppress(NetworkError):
        for kind, said in sent:
            client.send(kind, amf.encode(*said))
        for name in ("connect", "publish", "createStream", "deleteStream"):
            for kind, said in sent:
                client.send(kind, amf.encode(name, *said))
    client.server.take_bytes()
