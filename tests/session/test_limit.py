from fractions import Fraction

import numpy as np

from comfystream.frames import AudioFrame, VideoFrame
from comfystream.session.limit import FrameLimit


def picture(n):
    return VideoFrame(n, n, Fraction(1, 10), None)


def sound(n):
    return AudioFrame(n, n, Fraction(1, 10), np.zeros((1, 4), np.float32), 48_000)


def test_without_limits_all_is_admitted():
    assert all(FrameLimit(None, None).admits(picture(n)) for n in (0, 5, 10**9))


def test_pictures_are_counted_and_sound_is_not():
    limit = FrameLimit(None, 2)
    assert [limit.admits(f) for f in (sound(0), picture(0), sound(1), picture(1), picture(2))] == [True] * 4 + [False]


def test_duration_counts_media_time_of_both():
    limit = FrameLimit(0.3, None)
    assert [limit.admits(picture(n)) for n in range(4)] == [True, True, True, False]
    assert not limit.admits(sound(3))
