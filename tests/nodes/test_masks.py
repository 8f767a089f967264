from __future__ import annotations

import itertools

import pytest
import torch


def brute_force_grow(mask: torch.Tensor, radius: int, diamond: bool) -> torch.Tensor:
    """Maximum over the neighbourhood, pixel by pixel."""
    out = mask.clone()
    height, width = mask.shape[1:]
    for y, x in itertools.product(range(height), range(width)):
        for other_y, other_x in itertools.product(range(height), range(width)):
            down, across = abs(y - other_y), abs(x - other_x)
            if (down + across if diamond else max(down, across)) <= radius:
                out[:, y, x] = torch.maximum(out[:, y, x], mask[:, other_y, other_x])
    return out


@pytest.mark.parametrize("radius", [1, 2, 3, 5, 6, 12])
@pytest.mark.parametrize("diamond", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (2, 7, 5)])
def test_grow_and_shrink_are_neighbourhood_extremes(run, radius: int, diamond: bool, shape: tuple[int, ...]) -> None:
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(radius))
    grown = run("GrowMask", mask=mask, expand=radius, tapered_corners=diamond)[0]
    assert torch.equal(grown, brute_force_grow(mask, radius, diamond))
    shrunk = run("GrowMask", mask=mask, expand=-radius, tapered_corners=diamond)[0]
    assert torch.equal(shrunk, -brute_force_grow(-mask, radius, diamond))


def test_feather_ramps(run) -> None:
    feathered = run("FeatherMask", mask=torch.ones(1, 1, 4), left=2, top=0, right=4, bottom=0)[0]
    assert feathered[0, 0].tolist() == [0.5, 0.75, 0.5, 0.25]


@pytest.mark.parametrize(
    ("operation", "expected"),
    [("multiply", 0.3), ("add", 1.0), ("subtract", 0.1), ("and", 0.0), ("or", 1.0), ("xor", 1.0)],
)
def test_combine_at_a_place(run, operation: str, expected: float) -> None:
    both = run(
        "MaskComposite",
        destination=torch.full((1, 2, 2), 0.6),
        source=torch.full((1, 5, 5), 0.5),
        x=1,
        y=1,
        operation=operation,
    )[0]
    assert both[0, 0, 0].item() == pytest.approx(0.6)
    assert both[0, 1, 1].item() == pytest.approx(expected)


def test_colour_key(run) -> None:
    picture = torch.tensor([[[[1.0, 0.0, 0.0], [0.999, 0.0, 0.0], [0.99, 0.0, 0.0]]]])
    assert run("ImageColorToMask", image=picture, color=0xFF0000)[0].flatten().tolist() == [1, 1, 0]


def test_composite_is_clipped_at_the_border(run) -> None:
    inputs = {"destination": torch.zeros(1, 3, 3, 3), "source": torch.ones(1, 2, 2, 3), "resize_source": False}
    assert run("ImageCompositeMasked", x=2, y=2, **inputs)[0][..., 0].sum() == 1
    assert run("ImageCompositeMasked", x=99, y=0, **inputs)[0].sum() == 0
    half = run("ImageCompositeMasked", x=0, y=0, mask=torch.full((1, 2, 2), 0.5), **inputs)[0]
    assert half[0, 0, 0, 0] == 0.5


def test_alpha_round_trip(run) -> None:
    picture, mask = torch.rand(1, 4, 4, 3), torch.rand(1, 4, 4)
    joined = run("JoinImageWithAlpha", image=picture, alpha=mask)[0]
    back, alpha = run("SplitImageWithAlpha", image=joined)
    assert torch.equal(back, picture)
    assert torch.allclose(alpha, mask, atol=1e-6)
