from __future__ import annotations

import math

import pytest
import torch

from comfystream.errors import ConfigError
from comfystream_nodes.streamdiffusion.core import (
    Glide,
    SimilarityFilter,
    blend,
    mixed_noise,
    normalised,
    skip_probability,
    slerp,
    slot_noise,
)

EAST, NORTH = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
SHAPE = (4, 8, 8)


def test_weights_are_shares() -> None:
    assert normalised([1, 3]) == [0.25, 0.75]
    assert normalised([0, 0]) == [0.5, 0.5]
    for bad in ([], [math.nan]):
        with pytest.raises(ConfigError, match="weights"):
            normalised(bad)


def test_linear_is_the_weighted_sum() -> None:
    assert blend([EAST, NORTH], [1, 3]).tolist() == [[0.5, 1.5]]
    assert blend([EAST, NORTH], [1, 3], is_normalised=False).tolist() == [[2.0, 6.0]]


def test_slerp_goes_round() -> None:
    half = blend([EAST, NORTH], [1, 1], "slerp")
    assert torch.allclose(half, torch.full((1, 2), math.sqrt(2)))
    third = slerp(EAST, NORTH, 1 / 3)
    assert torch.allclose(third, torch.tensor([[2 * math.cos(math.pi / 6), 2 * math.sin(math.pi / 6)]]))


def test_slerp_of_parallel_ones_is_straight() -> None:
    assert torch.allclose(slerp(EAST, EAST * 3, 0.5), EAST * 2)
    assert torch.isfinite(slerp(torch.zeros(1, 2), EAST, 0.5)).all()
    assert torch.isfinite(slerp(EAST, -EAST, 0.5)).all()


def test_slerp_of_three_is_the_weighted_sum() -> None:
    three = [EAST, NORTH, EAST + NORTH]
    assert torch.equal(blend(three, [1, 1, 2], "slerp"), blend(three, [1, 1, 2], "linear"))


def test_unknown_method_and_wrong_count() -> None:
    with pytest.raises(ConfigError, match="'cubic' is unknown"):
        blend([EAST], [1], "cubic")
    with pytest.raises(ConfigError, match="2 values cannot be mixed by 1 weights"):
        blend([EAST, NORTH], [1])


def test_glide_takes_so_many_frames_and_arrives() -> None:
    glide = Glide()
    glide.aim([EAST])
    assert glide.step()[0] is EAST
    glide.aim([NORTH], frames=4)
    way = [glide.step()[0].tolist()[0] for _ in range(6)]
    assert way == [[1.5, 0.5], [1.0, 1.0], [0.5, 1.5], [0.0, 2.0], [0.0, 2.0], [0.0, 2.0]]
    assert not glide.is_moving


def test_glide_starts_from_where_it_is() -> None:
    glide = Glide()
    glide.aim([EAST])
    glide.aim([NORTH], frames=4)
    glide.step()
    glide.step()
    glide.aim([EAST], frames=2)
    assert glide.step()[0].tolist() == [[1.5, 0.5]]
    glide.aim([torch.zeros(1, 3)], frames=9)  # another shape cannot be glided to
    assert glide.step()[0].tolist() == [[0, 0, 0]]


def test_a_slot_keeps_its_noise_when_there_are_more() -> None:
    assert torch.equal(slot_noise(2, 4, SHAPE)[:2], slot_noise(2, 2, SHAPE))
    whole = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(2))
    assert torch.equal(slot_noise(2, 4, SHAPE), whole)  # what others draw in one go


def test_mixed_seeds_keep_their_loudness() -> None:
    mixed = mixed_noise([(1, 0.5), (2, 0.5)], 1, SHAPE)
    norms = [slot_noise(seed, 1, SHAPE).norm() for seed in (1, 2)]
    assert mixed.norm() == pytest.approx(float(sum(norms)) / 2, rel=1e-5)
    assert torch.equal(mixed_noise([(1, 5.0)], 1, SHAPE), slot_noise(1, 1, SHAPE))
    assert mixed_noise([(1, 1), (2, 1)], 1, SHAPE, "slerp").norm() == pytest.approx(float(norms[0]), rel=0.1)


@pytest.mark.parametrize(
    ("cosine", "threshold", "wanted"),
    [(1.0, 0.98, 1.0), (0.99, 0.98, 0.5), (0.98, 0.98, 0.0), (0.5, 0.98, 0), (1, 1, 0)],
)
def test_skip_probability(cosine: float, threshold: float, wanted: float) -> None:
    assert skip_probability(cosine, threshold) == pytest.approx(wanted)


def test_a_still_scene_is_skipped_and_looked_at_now_and_then() -> None:
    still, picture = SimilarityFilter(), torch.rand(1, 3, 70, 90)
    assert [still.should_skip(picture, 0.98, 3) for _ in range(9)] == [False, True, True, True] * 2 + [False]


def test_another_picture_is_worked_on() -> None:
    sieve = SimilarityFilter()
    pictures = [torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)]
    pictures[0][:, 0], pictures[1][:, 1] = 1.0, 1.0
    assert [sieve.should_skip(picture, 0.98, 10) for picture in pictures] == [False, False]


def test_a_black_scene_is_still_and_grey_ones_differ() -> None:
    """Of 0..1 as it is, black would never be like black, and one grey would be like any other."""
    still, moving = SimilarityFilter(), SimilarityFilter()
    assert [still.should_skip(torch.zeros(1, 3, 64, 64), 0.98, 10) for _ in range(3)] == [False, True, True]
    greys = [torch.full((1, 3, 64, 64), grey) for grey in (0.3, 0.7, 0.3, 0.7)]
    assert [moving.should_skip(grey, 0.98, 10) for grey in greys] == [False] * 4


def test_half_alike_is_skipped_half_the_time() -> None:
    """Compared with the last one that was worked on, so that slow drift is not missed."""
    first = torch.zeros(1, 3, 64, 64)
    first[:, 0] = 1.0
    angle = math.acos(0.99)
    other = torch.zeros_like(first)
    other[:, 0], other[:, 1] = math.cos(angle), math.sin(angle)
    skipped = 0
    for seed in range(400):
        sieve = SimilarityFilter(seed)
        sieve.should_skip(first / 2 + 0.5, 0.98, 10)
        skipped += sieve.should_skip(other / 2 + 0.5, 0.98, 10)
    assert 140 < skipped < 260
