"""Whatever is sent to the server, it answers below 500, or hangs up, and goes on."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trickle_wire import Peer, RunningServer, new_name, running

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NUMBERS = st.one_of(
    st.integers(-7, 12).map(str),
    st.sampled_from(["next", "", "-0", "+1", "00", "1.0", "٣", "9" * 30, "-" * 5, "%00", "%2e%2e", "%ff", "a/b"]),
    st.text("0123456789-+xn%2F", max_size=6),
)
METHODS = st.sampled_from(["GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS", "TRACE"])
HEADERS = st.dictionaries(
    st.sampled_from(["Lp-Trickle-Reset", "Expect-Content", "Content-Type", "Lp-Trickle-Seq", "Expect", "X-A"]),
    st.sampled_from(["", "1", "video/MP2T", "100-continue", "x" * 300, "é", '"; \t']),
    max_size=3,
)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running(auto_create=True, grace_s=0.05, gone_check_s=0.02, keep_alive_s=0.05) as server:
        yield server


def speak(url: str, data: bytes, for_s: float = 0.05) -> bytes:
    """What comes back while it is sent and shortly after."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 80), 10) as wire:
        with contextlib.suppress(ConnectionError):
            wire.sendall(data)
        wire.settimeout(for_s)
        found = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            while more := wire.recv(65536):
                found += more
        return found


def is_well(url: str) -> bool:
    peer = Peer(url, new_name()).create()
    return peer.write(0, "still here").status == 200 and peer.get(0)[1] == b"still here"


def statuses(answer: bytes) -> list[int]:
    lines = [line for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    return [int(line.split(b" ")[1]) for line in lines]


@FUZZ
@given(st.data())
def test_any_request_is_answered_below_500(server: RunningServer, data: st.DataObject) -> None:
    method, number, headers = data.draw(METHODS), data.draw(NUMBERS), data.draw(HEADERS)
    body = data.draw(st.binary(max_size=50))
    lines = [f"{method} /fuzz/{number} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    answer = speak(server.url, "\r\n".join([*lines, "", ""]).encode() + body)
    assert all(status < 500 for status in statuses(answer)), answer
    assert is_well(server.url)


@FUZZ
@given(st.binary(max_size=300))
def test_garbage_does_no_harm(server: RunningServer, garbage: bytes) -> None:
    assert all(status < 500 for status in statuses(speak(server.url, garbage)))
    assert is_well(server.url)


@FUZZ
@given(st.binary(max_size=100), st.integers(0, 6))
def test_bodies_that_are_no_chunks_do_no_harm(server: RunningServer, garbage: bytes, number: int) -> None:
    head = f"POST /fuzz-body/{number} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwell\r\n"
    answer = speak(server.url, head.encode() + garbage)
    assert all(status <= 500 for status in statuses(answer)), "500 is what a broken body is answered with"
    assert is_well(server.url)


@FUZZ
@given(st.lists(st.tuples(st.sampled_from(["POST", "DELETE", "GET"]), st.integers(-2, 9), st.booleans()), max_size=25))
def test_any_order_of_requests_keeps_the_window_whole(
    server: RunningServer, steps: list[tuple[str, int, bool]]
) -> None:
    """What is written last with a number, and to its end, is what is read back."""
    peer = Peer(server.url, new_name()).create()
    for method, number, has_bytes in steps:
        if method == "GET":
            with peer.open("GET", number):  # hung up on at once
                pass
        else:
            body = "x" if has_bytes and method == "POST" else ""
            assert peer.ask(method, number, body=body).status in (200, 400)
    number = peer.next()
    assert peer.write(-1, "last").seq == number
    answer, body = peer.get(-2)
    assert answer.status in (200, 470)
    if answer.status == 200 and answer.latest == number + 1:
        assert body in (b"last", b"")


def test_too_many_channels_are_refused() -> None:
    with running(auto_create=True, most_channels=2) as server:
        assert [Peer(server.url, name).ask("POST").status for name in "abcb"] == [200, 200, 503, 200]
        assert Peer(server.url, "d").write(0, "x").status == 503
        assert Peer(server.url, "a").ask("DELETE").status == 200
        assert Peer(server.url, "c").ask("POST").status == 200


def test_a_segment_without_end_is_cut() -> None:
    with running(auto_create=True, most_segment_bytes=1000) as server:
        peer = Peer(server.url, "a").create()
        with peer.open("POST", 0, body="chunked") as wire:
            wire.chunk(b"x" * 900)
            peer.wait_for_next(1)
            wire.chunk(b"x" * 900)
            assert wire.head().status == 413
        assert peer.get(0)[1] == b"x" * 900


def test_hooks_may_refuse() -> None:
    from comfystream.trickle.server import ChannelRefused

    def only_mine(name: str) -> None:
        if not name.startswith("mine"):
            raise ChannelRefused("not yours", status=401)

    async def never(name: str) -> None:
        raise ChannelRefused(f"{name} stays")

    with running(auto_create=True, before_create=only_mine, before_delete=never) as server:
        assert Peer(server.url, "yours").whole("POST")[1] == b"not yours\n"
        assert Peer(server.url, "yours").write(0, "x").status == 401
        assert Peer(server.url, "mine").create().ask("DELETE").status == 403
        assert Peer(server.url, "mine").next() == 0


def test_it_can_be_mounted_below_a_path() -> None:
    with running("/ai/trickle/", auto_create=True) as server:
        assert server.url.endswith("/ai/trickle")
        assert is_well(server.url)
        assert Peer(server.url.removesuffix("/ai/trickle"), "x").ask("POST").status == 404
