"""Conformance of a server, second half: segments. The number in a name is that of the check in docs/trickle.md."""

from __future__ import annotations

import time

import pytest
from trickle_wire import DEADLINE_S, Peer


def test_s05_an_empty_channel_lets_wait_for_its_first_two_segments(ch: Peer) -> None:
    with ch.open("GET", 0) as first, ch.open("GET", 1) as second:
        assert first.is_waiting()
        assert second.is_waiting()
    answer, body = ch.get(2)
    assert (answer.status, answer.reason) == (470, "status code 470")
    assert (answer.latest, answer.seq, body) == (0, 2, b"Entry not found")


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("word", ["abc", "1.5", "0x1", "%20", "1e3"])
def test_s06_a_number_that_is_none_is_a_bad_request(ch: Peer, method: str, word: str) -> None:
    answer, body = ch.whole(method, word)
    assert (answer.status, body) == (400, b"Invalid idx\n")


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize("word", ["٣", "1_000", "9" * 40])
def test_s06_digits_that_only_python_knows_are_none(ch: Peer, word: str) -> None:
    from urllib.parse import quote

    assert ch.ask("GET", quote(word)).status == 400


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize(
    ("method", "number"), [("GET", -3), ("GET", -5), ("POST", -2), ("POST", -10), ("DELETE", -1), ("DELETE", -2)]
)
def test_s07_numbers_below_the_special_ones_are_bad_requests(ch: Peer, method: str, number: int) -> None:
    """The reference drops the connection, or hangs for ever."""
    assert ch.ask(method, number).status == 400
    assert ch.write(0, "still usable").seq == 0
    assert ch.get(0)[1] == b"still usable"


def test_s09_writing_gives_the_number_and_moves_on(ch: Peer) -> None:
    answer = ch.write(0, "zero")
    assert (answer.status, answer.seq, answer["Content-Length"]) == (200, 0, "0")
    assert ch.next() == 1


def test_s10_a_segment_reads_back_with_its_headers(ch: Peer) -> None:
    ch.write(0, "zero")
    answer, body = ch.get(0)
    assert (answer.status, answer.seq, answer.latest, body) == (200, 0, 1, b"zero")
    assert answer["Transfer-Encoding"] == "chunked"
    assert answer["Content-Type"] == "video/MP2T"
    assert not answer.is_closed


def test_s10_head_is_get_without_the_body(ch: Peer) -> None:
    ch.write(0, "zero")
    with ch.open("HEAD", 0) as wire:
        answer = wire.head()
        assert (answer.status, answer.seq) == (200, 0)
        assert wire.is_waiting()


def test_s10_without_a_type_it_is_empty(server_url: str) -> None:
    from trickle_wire import new_name

    made = Peer(server_url, new_name())
    assert made.ask("POST").status == 200
    made.write(0, "zero")
    assert made.get(0)[0]["Content-Type"] == ""


def test_s11_minus_two_is_the_current_and_minus_one_the_next(ch: Peer) -> None:
    with ch.open("GET", -2) as early:
        assert early.is_waiting()
        ch.write(0, "zero")
        assert early.head().seq == 0
    answer, body = ch.get(-2)
    assert (answer.seq, body) == (0, b"zero")
    with ch.open("GET", -1) as waiting:
        assert waiting.is_waiting()
        ch.write(1, "one")
        assert waiting.head().seq == 1


def test_s11_while_one_is_written_the_next_is_the_one_after(ch: Peer) -> None:
    with ch.open("POST", 0, body="chunked") as writing, ch.open("GET", 0) as reading:
        writing.chunk(b"begun")
        assert reading.head().seq == 0
        with ch.open("GET", -2) as current, ch.open("GET", -1) as following:
            assert current.head().seq == 0
            assert following.is_waiting()
            ch.write(1, "one")
            assert following.head().seq == 1


def test_s12_minus_one_writes_the_next_number(ch: Peer) -> None:
    assert ch.write(-1, "zero").seq == 0
    assert ch.write(-1, "one").seq == 1
    assert ch.get(1)[1] == b"one"


def test_s13_an_empty_segment_uses_up_its_number(ch: Peer) -> None:
    with ch.open("POST", 0, body="chunked") as wire:
        wire.end()
        answer = wire.head()
        assert (answer.status, answer.seq, answer["Connection"]) == (200, 0, "close")
    assert ch.next() == 1
    answer, body = ch.get(0)
    assert (answer.status, answer["Content-Length"], answer.seq, answer.latest) == (200, "0", 0, 1)
    assert body == b""
    assert not answer.is_closed


def test_s13_who_waits_for_it_is_let_go(ch: Peer) -> None:
    with ch.open("GET", 0) as waiting:
        assert waiting.is_waiting()
        with ch.open("POST", 0, body="chunked") as wire:
            wire.end()
            answer = waiting.head()
    assert (answer.status, answer["Content-Length"], answer.is_closed) == (200, "0", False)


def test_s14_the_window_holds_five_and_waiting_takes_one(ch: Peer) -> None:
    for number in range(9):
        ch.write(number, f"segment {number}")
    for number in range(4, 9):
        assert ch.get(number)[1] == b"segment %d" % number
    answer = ch.ask("GET", 3)
    assert (answer.status, answer.latest, answer.seq) == (470, 9, 3)
    with ch.open("GET", 9) as waiting:
        assert waiting.is_waiting()
        assert ch.ask("GET", 4).status == 470
        assert ch.get(5)[1] == b"segment 5"


def test_s14_announcing_takes_a_slot_too(ch: Peer) -> None:
    for number in range(5):
        ch.write(number, "x")
    with ch.open("POST", 5, body="chunked") as announced:
        assert announced.is_waiting()
        assert ch.ask("GET", 0).status == 470
        assert ch.ask("GET", 1).status == 200


def test_s15_one_too_far_ahead_is_no_entry(ch: Peer) -> None:
    for number in range(9):
        ch.write(number, "x")
    answer = ch.ask("GET", 10)
    assert (answer.status, answer.latest, answer.seq) == (470, 9, 10)


def test_s16_a_read_during_the_write_gets_bytes_as_they_come(ch: Peer) -> None:
    with ch.open("POST", 0, body="chunked") as writing, ch.open("GET", 0) as early:
        assert early.is_waiting()  # not even a status line
        writing.chunk(b"first ")
        writing.chunk(b"second ")
        early.head()
        assert early.read(13) == b"first second "
        with ch.open("GET", 0) as late:
            late.head()
            assert late.read(13) == b"first second "
            for _ in range(20):
                writing.chunk(b"more ")
                assert early.read(5) == late.read(5) == b"more "
            assert late.is_waiting()
            writing.end()
            assert early.rest() == late.rest() == b""


def test_s17_next_moves_with_the_first_byte(ch: Peer) -> None:
    with ch.open("POST", 0, body="chunked") as writing:
        assert writing.is_waiting()
        assert ch.next() == 0
        writing.chunk(b"x")
        ch.wait_for_next(1)
        assert writing.is_waiting()


def test_s18_the_leading_edge_has_no_latest(ch: Peer) -> None:
    with ch.open("GET", 0) as waiting:
        assert waiting.is_waiting()
        ch.write(0, "zero")
        answer = waiting.head()
    assert (answer.seq, answer.latest) == (0, None)


def test_s22_deleting_a_segment(ch: Peer, server_url: str) -> None:
    ch.write(0, "zero")
    assert ch.ask("DELETE", 0).status == 200
    answer, body = ch.whole("DELETE", 7)
    assert (answer.status, body) == (400, b"Nonexistent segment\n")
    answer, body = Peer(server_url, "nope").whole("DELETE", 0)
    assert (answer.status, body) == (404, b"Stream not found\n")


def test_s22_it_lets_readers_and_idle_writers_go(ch: Peer) -> None:
    with ch.open("POST", 0, body="chunked") as idle, ch.open("GET", 0) as waiting:
        assert idle.is_waiting()
        assert waiting.is_waiting()
        assert ch.ask("DELETE", 0).status == 200
        answer = idle.head()
        assert (answer.status, answer.seq, answer["Connection"], answer.is_closed) == (200, 0, "close", False)
        assert (waiting.head().status, waiting.rest()) == (200, b"")


@pytest.mark.slow  # 20 s with another server, less than one with ours
@pytest.mark.timeout(120)
def test_s23_an_idle_write_is_told_to_go_on(ch: Peer, keep_alive_s: float) -> None:
    with ch.open("POST", 0, body="chunked") as idle, ch.open("GET", 0) as waiting:
        began = time.monotonic()
        for times in (1, 2):
            assert idle.head(with_interim=True).status == 100
            assert time.monotonic() - began >= times * keep_alive_s * 0.9
        idle.chunk(b"late")
        idle.end()
        assert waiting.head().status == 200
        assert waiting.rest() == b"late"
        assert idle.head().status == 200


def test_s24_an_idle_write_ends_when_its_slot_is_taken(ch: Peer) -> None:
    with ch.open("POST", 0, body="chunked") as idle:
        assert idle.is_waiting()
        ch.write(5, "five")
        answer = idle.head()
        assert (answer.status, answer.seq, answer.is_closed) == (200, 0, False)


@pytest.mark.usefixtures("ours")
def test_s24_that_does_not_move_next_back(ch: Peer) -> None:
    with ch.open("POST", 0, body="chunked") as idle:
        assert idle.is_waiting()
        ch.write(5, "five")
        idle.head()
    assert ch.next() == 6


def test_s25_reset_closes_lower_segments_and_keeps_their_bytes(ch: Peer) -> None:
    with ch.open("POST", 0, body="chunked") as stuck, ch.open("GET", 0) as reading:
        stuck.chunk(b"half")
        reading.head()
        assert reading.read(4) == b"half"
        assert ch.ask("POST", 1, {"Lp-Trickle-Reset": "1"}, "new").status == 200
        assert reading.rest() == b""
    assert ch.get(0)[1] == b"half"
    assert ch.get(1)[1] == b"new"


def test_s26_writing_to_an_open_number_appends(ch: Peer) -> None:
    with ch.open("POST", 0, body="chunked") as first, ch.open("GET", 0) as reading:
        first.chunk(b"one ")
        reading.head()
        assert reading.read(4) == b"one "
        assert ch.write(0, "two").status == 200
        assert reading.rest() == b"two"
    assert ch.get(0)[1] == b"one two"


@pytest.mark.usefixtures("ours")
def test_s26_writing_to_a_closed_number_changes_nothing(ch: Peer) -> None:
    """The reference may append what arrives in the same instant."""
    ch.write(0, "zero")
    answer = ch.write(0, "again")
    assert (answer.status, answer["Connection"]) == (200, "close")
    assert ch.get(0)[1] == b"zero"


def test_s27_a_lost_publisher_is_made_up_for_by_delete(ch: Peer) -> None:
    with ch.open("GET", 0) as reading:
        with ch.open("POST", 0, body="chunked") as dying:
            dying.chunk(b"half")
            reading.head()
            assert reading.read(4) == b"half"
        assert ch.ask("DELETE", 0).status == 200
        assert reading.rest() == b""


@pytest.mark.usefixtures("ours")
def test_s27_readers_of_a_lost_publisher_are_let_go_after_the_grace(ch: Peer) -> None:
    with ch.open("GET", 0) as reading:
        with ch.open("POST", 0, body="chunked") as dying:
            dying.chunk(b"half")
            reading.head()
            assert reading.read(4) == b"half"
        reading.socket.settimeout(DEADLINE_S)
        assert reading.rest() == b""
    assert ch.next() == 1


@pytest.mark.usefixtures("ours")
def test_s27_an_announcement_that_is_lost_leaves_readers_waiting_for_the_next_try(ch: Peer) -> None:
    with ch.open("GET", 0) as waiting:
        with ch.open("POST", 0, body="chunked") as dying:
            assert dying.is_waiting()
        assert waiting.is_waiting(0.4)
        ch.write(0, "second try")
        waiting.head()
        assert waiting.rest() == b"second try"


@pytest.mark.usefixtures("ours")
def test_s27_a_number_that_nobody_writes_is_skipped(ch: Peer) -> None:
    """The reference lets its readers wait until the number falls out of the window."""
    with ch.open("GET", 1) as waiting:
        assert waiting.is_waiting()
        ch.write(0, "zero")
        ch.write(2, "two")
        answer = waiting.head()
    assert (answer.status, answer.seq, answer["Content-Length"]) == (200, 1, "0")
