"""The picture that stands in while something loads."""

from __future__ import annotations

import numpy as np
import pytest

from comfystream.media.planes import byte_planes
from comfystream.media.progress import ProgressPictures, progress_picture


def _bar_share(share: float | None) -> float:
    """How much of a card differs from one with an empty bar, relative to one with a full bar."""
    empty, full = (byte_planes(progress_picture((512, 512), "x", part))[0] for part in (0.0, 1.0))
    luma = byte_planes(progress_picture((512, 512), "x", share))[0]
    return float(np.count_nonzero(luma != empty) / np.count_nonzero(full != empty))


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_the_bar_is_as_long_as_the_share(share: float) -> None:
    assert _bar_share(share) == pytest.approx(share, abs=0.02)


def test_shares_out_of_range_are_none_or_all() -> None:
    assert _bar_share(-3) == 0
    assert _bar_share(7) == 1


def test_words_change_the_picture() -> None:
    one, two = (byte_planes(progress_picture((512, 512), text))[0] for text in ("loading weights", "warming up"))
    assert (one != two).any()


@pytest.mark.parametrize("size", [(2, 2), (17, 9), (64, 1280), (1281, 721)])
def test_any_size_is_made_even(size: tuple[int, int]) -> None:
    image = progress_picture(size, "a long text that has to be wrapped somewhere", 0.5)
    assert (image.width, image.height) == (size[0] & ~1, size[1] & ~1)
    assert image.format.name == "yuv420p"


def test_the_same_words_are_drawn_once() -> None:
    pictures = ProgressPictures()
    first = pictures.picture((128, 96), "loading", 0.101)
    assert pictures.picture((128, 96), "loading", 0.104) is first
    assert pictures.picture((128, 96), "loading", 0.12) is not first
