from __future__ import annotations

import itertools
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from comfystream_server.rtc.bitrate import fitting, range_for
from comfystream_server.rtc.timeline import MediaWall, Timeline

S = 10**9
RTP = Fraction(1, 90_000)


def test_media_time_becomes_rtp_time() -> None:
    line = Timeline(RTP)
    assert [line.at(n, Fraction(1, 30), n * S // 30) for n in range(100, 104)] == [0, 3000, 6000, 9000]


def test_another_source_goes_on_as_the_clock_does() -> None:
    line = Timeline(RTP)
    line.at(1000, Fraction(1), 0)
    assert line.at(0, Fraction(1, 30), S // 2) == 45_000, "back to zero after half a second"
    assert line.at(1, Fraction(1, 30), S) == 48_000, "from then on by media time again"
    assert line.at(3600, Fraction(1), 2 * S) == 48_000 + 90_000, "an hour ahead, a second later"


def test_a_repeated_frame_has_a_time_of_its_own() -> None:
    line = Timeline(RTP)
    first = line.at(0, RTP, 0)
    assert first < line.repeated(S // 10) < line.at(18_000, RTP, S // 5)


@given(st.lists(st.tuples(st.integers(-(10**9), 10**9), st.integers(0, 10**10)), min_size=2, max_size=30))
def test_rtp_time_never_stands_or_runs_back(frames: list[tuple[int, int]]) -> None:
    line, now, times = Timeline(RTP), 0, []
    for pts, later in frames:
        now += later
        times.append(line.at(pts, Fraction(1, 1000), now))
    assert all(earlier < later for earlier, later in itertools.pairwise(times))


def test_sound_and_pictures_share_one_wall() -> None:
    """Pictures that took half a second longer through the workflow stand where their sound stood."""
    wall = MediaWall()
    assert wall.at(Fraction(10), Fraction(1000)) == 1000
    assert wall.at(Fraction(10), Fraction(2001, 2)) == 1000
    assert wall.at(Fraction(11), Fraction(1001)) == 1001
    assert wall.at(Fraction(0), Fraction(1002)) == 1002, "another source: a new line"


def test_bitrate_between_what_is_of_use() -> None:
    limits = range_for(512, 512)
    assert limits.least < limits.start < limits.most
    assert fitting((512, 512), None) == limits.start
    assert fitting((512, 512), 10) == limits.least
    assert fitting((512, 512), 10**9) == limits.most
    assert fitting((512, 512), 1_000_000) == 1_000_000
    assert range_for(1280, 720).start > limits.start
    assert range_for(7680, 4320).most == 12_000_000
    assert range_for(16, 16).least == 100_000
