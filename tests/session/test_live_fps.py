"""Rates by whole seconds."""

from __future__ import annotations

from comfystream.session.live_fps import FpsMeter

NS = 1_000_000_000


def test_nothing_yet() -> None:
    assert FpsMeter().stats(5 * NS).fps == 0


def test_seconds_without_frames_count_as_zero() -> None:
    meter = FpsMeter()
    for i in range(30):
        meter.count(100 * NS + i * NS // 30)
    stats = meter.stats(103 * NS)
    assert stats.minute == ((1, 30), (2, 0), (3, 0))
    assert (stats.fps, stats.minute_average, stats.seconds) == (0, 10, 3)


def test_a_minute_is_kept_even_after_a_long_gap() -> None:
    meter = FpsMeter()
    meter.count(0)
    meter.count(10_000 * NS)
    stats = meter.stats(10_001 * NS)
    assert len(stats.minute) == 60
    assert stats.fps == 1
