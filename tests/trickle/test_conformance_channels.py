"""Conformance of a server, first half: channels. The number in a name is that of the check in docs/trickle.md."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from trickle_wire import DEADLINE_S, Peer, RunningServer, Wire, new_name, running


def test_s01_reading_an_unknown_channel_is_not_found(server_url: str) -> None:
    answer, body = Peer(server_url, new_name()).get(0)
    assert answer.status == 404
    assert body == b"Stream not found\n"
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_s02_creation_depends_on_the_server(server_url: str, strict_url: str) -> None:
    assert Peer(strict_url, new_name()).whole("POST")[1] == b"Stream not found\n"
    assert Peer(strict_url, new_name()).ask("POST").status == 404
    made = Peer(server_url, new_name())
    for _ in range(2):
        answer, body = made.whole("POST")
        assert (answer.status, body) == (200, b"")


def test_s02_the_type_of_the_first_creation_stays(server_url: str) -> None:
    made = Peer(server_url, new_name()).create("video/MP2T").create("text/plain")
    made.write(0, "zero")
    assert made.get(0)[0]["Content-Type"] == "video/MP2T"


def test_s03_writing_to_an_unknown_channel_is_refused_and_hangs_up(strict_url: str) -> None:
    with Peer(strict_url, new_name()).open("POST", 0, body="chunked") as wire:
        answer = wire.head()
        assert answer.status == 404
        assert answer["Connection"] == "close"
        assert wire.rest() == b"Stream not found\n"


def test_s03_writing_creates_where_that_is_on(server_url: str) -> None:
    made = Peer(server_url, new_name())
    answer = made.ask("POST", 0, {"Content-Type": "application/json"}, "{}")
    assert answer.status == 200
    assert made.get(0)[0]["Content-Type"] == "application/json"


def test_s04_next_of_an_empty_channel_is_zero(ch: Peer) -> None:
    answer, body = ch.whole("GET", "next")
    assert (answer.status, body, answer.latest) == (200, b"0", 0)
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert not answer.is_closed


def test_s04_next_of_an_unknown_channel_is_not_found(server_url: str) -> None:
    assert Peer(server_url, new_name()).ask("GET", "next").status == 404


def test_s08_there_is_no_put(ch: Peer) -> None:
    answer = ch.ask("PUT", 0, body="x")
    assert (answer.status, answer["Allow"]) == (405, "DELETE, GET, HEAD, POST")
    answer = ch.ask("GET")
    assert (answer.status, answer["Allow"]) == (405, "DELETE, POST")


def test_s08_doubled_slashes_are_redirected(server_url: str, ch: Peer) -> None:
    with Wire(server_url, "GET", f"//{ch.name}//0") as wire:
        answer = wire.head()
    assert answer.status in (301, 307, 308)
    assert (answer["Location"] or "").endswith(f"/{ch.name}/0")


def test_s19_deleting_a_channel_ends_waiting_reads(ch: Peer) -> None:
    with ch.open("GET", 0) as waiting, ch.open("GET", -1) as following:
        assert waiting.is_waiting()
        assert ch.ask("DELETE").status == 200
        for wire in (waiting, following):
            answer = wire.head()
            assert (answer.status, answer["Lp-Trickle-Closed"]) == (200, "terminated")
            assert wire.rest() == b""
    assert ch.get(0)[0].status == 404


def test_s20_deleting_a_channel_ends_idle_writes(ch: Peer) -> None:
    with ch.open("POST", 0, body="chunked") as idle:
        assert idle.is_waiting()
        assert ch.ask("DELETE").status == 200
        answer = idle.head()
        assert (answer.status, answer.seq, answer["Lp-Trickle-Closed"]) == (200, 0, "terminated")
        assert answer["Connection"] == "close"


def test_s21_deleting_an_unknown_channel_is_a_bad_request(server_url: str) -> None:
    answer, body = Peer(server_url, new_name()).whole("DELETE")
    assert (answer.status, body) == (400, b"Invalid stream\n")


def test_s30_an_encoded_slash_stays_in_the_name(server_url: str) -> None:
    made = Peer(server_url, f"{new_name()}%2Fout").create()
    made.write(0, "zero")
    assert made.get(0)[1] == b"zero"
    assert Peer(server_url, made.name.replace("%2F", "%2f")).get(0)[1] == b"zero"
    assert made.ask("DELETE").status == 200


def feed_says(feed: Peer, number: int, wanted: dict[str, list[str]]) -> bool:
    """Somewhere from that number on; others may create channels at the same time."""
    return any(json.loads(feed.get(later)[1]) == wanted for later in range(number, number + 5))


def test_s29_the_changefeed_tells_what_comes_and_goes(server_url: str) -> None:
    feed = Peer(server_url, "_changes")
    made = Peer(server_url, new_name())
    for method, word in (("POST", "added"), ("DELETE", "removed")):
        number = feed.next()
        made.ask(method)
        assert feed_says(feed, number, {word: [made.name]})
    assert feed.get(-2)[0]["Content-Type"] == "application/json"


def test_s29_the_changefeed_announces_itself_first() -> None:
    with running(changefeed=True) as server:
        assert json.loads(Peer(server.url, "_changes").get(0)[1]) == {"added": ["_changes"]}


def test_s29_there_is_none_unless_it_is_on(strict_url: str) -> None:
    assert Peer(strict_url, "_changes").get(0)[0].status == 404


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def aging(clock: Clock) -> Iterator[RunningServer]:
    with running(auto_create=True, clock=clock) as server:
        yield server


def test_s28_an_idle_channel_is_removed_after_five_minutes(aging: RunningServer, clock: Clock) -> None:
    idle = Peer(aging.url, "idle").create()
    internal = Peer(aging.url, "_internal").create()
    busy = Peer(aging.url, "busy").create()
    with idle.open("GET", 0) as waiting:
        assert waiting.is_waiting()
        clock.now_s += 299
        busy.write(0, "a segment began")
        assert aging.on_loop(lambda server: server.sweep()) == []
        clock.now_s += 2
        assert aging.on_loop(lambda server: server.sweep()) == ["idle"]
        assert waiting.head().is_closed
    assert idle.get(0)[0].status == 404
    assert internal.next() == 0
    assert busy.next() == 1


def test_s28_bytes_within_a_long_segment_count_too(aging: RunningServer, clock: Clock) -> None:
    """The reference kills a channel in the middle of a segment that lasts longer."""
    busy = Peer(aging.url, "busy").create()
    with busy.open("POST", 0, body="chunked") as wire, busy.open("GET", 0) as reading:
        wire.chunk(b"a")
        reading.head()
        assert reading.read(1) == b"a"
        clock.now_s += 299
        wire.chunk(b"b")
        assert reading.read(1) == b"b"
        clock.now_s += 2
        assert aging.on_loop(lambda server: server.sweep()) == []


def test_s28_the_server_sweeps_by_itself() -> None:
    with running(auto_create=True, idle_s=1, sweep_s=0.1) as server:
        Peer(server.url, "idle").create()
        until = time.monotonic() + DEADLINE_S
        while server.on_loop(lambda server: server.names):
            assert time.monotonic() < until
