from __future__ import annotations

from collections.abc import Iterable

import pytest
from aiortc.rtp import RtpPacket
from hypothesis import given
from hypothesis import strategies as st
from rtc_ends import frame

from comfystream_server.rtc.assembly import FrameAssembler

MS = 1_000_000


class Line:
    """An assembler and what it handed on; the clock is turned by hand."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, bytes]] = []
        self.now = 0
        self.assembler = FrameAssembler(lambda _, frame: self.frames.append((frame.timestamp, frame.data)), self._now)

    def _now(self) -> int:
        return self.now

    def take(self, packets: Iterable[RtpPacket]) -> bool:
        return sum(self.assembler.add(packet)[0] for packet in packets) > 0


def whole(number: int, parts: int = 3) -> tuple[int, bytes]:
    return number * 3000, b"".join(bytes([number, part]) for part in range(parts))


@pytest.mark.parametrize("first", [0, 10, 65534])
def test_a_frame_comes_out_with_its_last_packet(first: int) -> None:
    line = Line()
    for number in range(4):
        *head, last = frame(number, first + 3 * number)
        line.take(head)
        assert len(line.frames) == number
        line.take([last])
        assert line.frames[-1] == whole(number)
    assert line.assembler.lost_frames == 0


def test_without_markers_the_next_frame_ends_it() -> None:
    line = Line()
    line.take(frame(0, 0, has_marker=False))
    assert line.frames == []
    line.take(frame(1, 3, has_marker=False)[:1])
    assert line.frames == [whole(0)]


def test_a_missing_packet_holds_the_frame_and_all_come_when_it_comes() -> None:
    line = Line()
    first, *rest = frame(0, 0), frame(1, 3), frame(2, 6)
    line.take([first[0], first[2], *rest[0], *rest[1]])
    assert line.frames == []
    assert not line.take([first[1]])
    assert line.frames == [whole(0), whole(1), whole(2)]
    assert not line.take([first[1]]), "twice is no harm"
    assert len(line.frames) == 3


def test_a_packet_that_does_not_come_is_given_up_in_time() -> None:
    line = Line()
    line.take(frame(0, 0))
    hurt = frame(1, 3)
    line.take([hurt[0], hurt[2]])
    line.now += 249 * MS
    assert not line.take(frame(2, 6))
    line.now += 2 * MS
    assert line.take(frame(3, 9)), "a key frame has to be asked for"
    assert line.frames == [whole(0), whole(2), whole(3)]
    assert line.assembler.lost_frames == 1
    assert not line.take(frame(4, 12))
    assert line.frames[-1] == whole(4)


def test_a_frame_whose_start_may_be_lost_is_not_shown() -> None:
    line = Line()
    line.take(frame(0, 0))
    hurt, second = frame(1, 3), frame(2, 6)
    line.take([hurt[0], second[1]])  # the hole may reach into the second
    line.now += 300 * MS
    assert line.take([second[2]])
    line.take(frame(3, 9))
    assert line.frames == [whole(0), whole(3)]


def test_padding_is_no_frame() -> None:
    line = Line()
    line.take(frame(0, 0))
    padding = RtpPacket(payload_type=96, sequence_number=3, timestamp=0)
    padding._data = b""
    line.take([padding, *frame(1, 4), *frame(2, 7)])
    assert line.frames == [whole(0), whole(1), whole(2)]


def test_a_sender_that_marks_each_slice_is_found_out() -> None:
    line = Line()
    for number in range(3):
        packets = frame(number, 3 * number)
        for packet in packets:
            packet.marker = 1
        line.take(packets)
    assert line.frames[0] == (0, bytes([0, 0])), "the first one is cut: nobody could know"
    assert line.frames[-1] == whole(1), "from then on the next frame ends each"


def test_a_stream_that_begins_anew() -> None:
    line = Line()
    line.take(frame(0, 30_000))
    assert line.take(frame(1, 100)), "numbers went far back"
    assert line.frames == [whole(0), whole(1)]
    assert line.take(frame(2, 5_000)), "numbers went far ahead"
    assert line.frames[-1] == whole(2)


@given(st.randoms(use_true_random=False), st.integers(0, 65535))
def test_order_on_the_way_does_not_matter(dice, first: int) -> None:
    """Packets that overtake each other by a few places, some twice: every frame comes out once, whole and in order."""
    line = Line()
    packets = [packet for number in range(30) for packet in frame(number, first + 2 * number, 2)]
    line.take(packets[:1])
    late = sorted(enumerate(packets[1:]), key=lambda pair: pair[0] + dice.uniform(0, 6))
    line.take(packet for _, packet in late)
    line.take(dice.sample(packets, 5))
    assert line.frames == [whole(number, 2) for number in range(30)]
