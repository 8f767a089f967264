"""When a live stream is behind, pictures are left out up to a key frame that is not."""

from __future__ import annotations

from comfystream.media.backlog import Backlog


def test_a_stream_in_time_loses_nothing() -> None:
    backlog = Backlog()
    assert not any(backlog.may_skip(n / 25, 7 + n / 25 + 0.4 * (n % 2), is_key=n % 25 == 0) for n in range(200))


def test_a_burst_at_the_beginning_is_no_delay() -> None:
    backlog = Backlog()
    assert not any(backlog.may_skip(n / 25, 0.0, is_key=n == 0) for n in range(50))
    assert not any(backlog.may_skip(2 + n / 25, n / 25, is_key=n == 0) for n in range(50))


def test_it_goes_on_at_a_key_frame_that_is_in_time() -> None:
    backlog = Backlog()
    assert not backlog.may_skip(0.0, 0.0, is_key=True)
    assert backlog.may_skip(0.1, 1.2, is_key=False)
    assert backlog.may_skip(0.5, 1.3, is_key=True)  # still 0.8 s late
    assert backlog.may_skip(1.3, 1.3, is_key=False)
    assert not backlog.may_skip(1.4, 1.4, is_key=True)
    assert not backlog.may_skip(1.5, 1.5, is_key=False)
    assert backlog.left_out == 3


def test_a_slower_clock_of_the_sender_is_no_delay_for_ever() -> None:
    backlog = Backlog()
    skipped = [backlog.may_skip(n * 0.039, n * 0.04, is_key=n % 25 == 0) for n in range(5000)]
    assert any(skipped)
    assert sum(skipped) < 1000
