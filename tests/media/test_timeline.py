from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest

from comfystream.media.timeline import Timeline


@pytest.mark.parametrize(
    ("came", "placed"),
    [
        ([100, 110, 120], [0, 10, 20]),
        ([100, None, 120], [0, 10, 20]),
        ([None, None, 120], [0, 10, 20]),
        ([100, 110, 110, 130], [0, 10, 15, 30]),
        ([100, 120, 110, 130], [0, 20, 25, 30]),
        ([5100, 5110, 100, 110, 120], [5000, 5010, 5020, 5030, 5040]),
        ([100, 900, 910], [0, 800, 810]),
        ([90, 100], [-10, 0]),
    ],
)
def test_times_only_go_forward(came: list[int | None], placed: list[int]) -> None:
    timeline = Timeline(100, 10, Fraction(1, 300))
    times = [timeline.place(pts) for pts in came]
    assert times == placed
    assert all(later > earlier for earlier, later in pairwise(times))
