"""Expected values are closed forms or tiny arrays worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor


def image(rows: list[list[float]], channels: int = 3) -> Tensor:
    return torch.tensor(rows)[None, ..., None].repeat(1, 1, 1, channels)


def grey(picture: Tensor) -> list[list[float]]:
    return [[round(value, 6) for value in row] for row in picture[0, ..., 0].tolist()]


def test_invert(run) -> None:
    assert grey(run("ImageInvert", image=image([[0.0, 0.25, 1.0]]))[0]) == [[1.0, 0.75, 0.0]]


def test_empty_image_has_the_colour(run) -> None:
    picture = run("EmptyImage", width=3, height=2, batch_size=2, color=0xFF8000)[0]
    assert picture.shape == (2, 2, 3, 3)
    assert torch.allclose(picture[1, 1, 2], torch.tensor([1.0, 128 / 255, 0.0]))


@pytest.mark.parametrize(
    ("method", "expected"), [("nearest-exact", [0.0, 0.0, 1.0, 1.0]), ("bilinear", [0.0, 0.25, 0.75, 1.0])]
)
def test_scale(run, method: str, expected: list[float]) -> None:
    scaled = run("ImageScale", image=image([[0.0, 1.0]]), upscale_method=method, width=4, height=1, crop="disabled")[0]
    assert grey(scaled) == [expected]


def test_scale_by_area_is_the_mean(run) -> None:
    scaled = run("ImageScaleBy", image=image([[0.0, 1.0], [0.5, 0.1]]), upscale_method="area", scale_by=0.5)[0]
    assert grey(scaled) == [[0.4]]


def test_a_zero_side_follows_from_the_aspect_ratio(run) -> None:
    picture = torch.zeros(1, 10, 20, 3)
    assert run("ImageScale", image=picture, upscale_method="area", width=0, height=5, crop="disabled")[0].shape == (
        1,
        5,
        10,
        3,
    )


def test_center_crop_keeps_the_middle(run) -> None:
    scaled = run(
        "ImageScale", image=image([[0.1, 0.5, 0.9]]), upscale_method="bilinear", width=1, height=1, crop="center"
    )[0]
    assert grey(scaled) == [[0.5]]


def test_lanczos_gives_eight_bits(run) -> None:
    scaled = run("ImageScaleBy", image=torch.full((1, 4, 4, 3), 0.5), upscale_method="lanczos", scale_by=2.0)[0]
    assert torch.allclose(scaled, torch.full((1, 8, 8, 3), 127 / 255))


def test_blur_keeps_the_sum_and_the_kernel_is_gaussian(run) -> None:
    dot = torch.zeros(1, 9, 9, 3)
    dot[:, 4, 4] = 1.0
    blurred = run("ImageBlur", image=dot, blur_radius=1, sigma=1.0)[0]
    assert blurred.sum().item() == pytest.approx(3.0, abs=1e-5)
    assert (blurred[0, 4, 3, 0] / blurred[0, 4, 4, 0]).item() == pytest.approx(math.exp(-0.5), abs=1e-6)
    assert (blurred[0, 3, 3, 0] / blurred[0, 4, 4, 0]).item() == pytest.approx(math.exp(-1.0), abs=1e-6)


def test_blur_mirrors_at_the_edge_without_repeating_it(run) -> None:
    side = math.exp(-0.5) / (1 + 2 * math.exp(-0.5))
    blurred = run("ImageBlur", image=image([[0.0, 1.0, 0.0]] * 3), blur_radius=1, sigma=1.0)[0]
    assert blurred[0, 0, 0, 0].item() == pytest.approx(2 * side, abs=1e-6)


def test_blur_of_a_picture_that_is_too_small_says_so(run) -> None:
    with pytest.raises(ValueError, match="radius 5 is too large for a picture of 4x3"):
        run("ImageBlur", image=torch.zeros(1, 3, 4, 3), blur_radius=5, sigma=1.0)


@pytest.mark.parametrize("shape", [(1, 9, 12, 3), (2, 7, 5, 1), (1, 6, 6, 4), (0, 4, 4, 3)])
@pytest.mark.parametrize("radius", [1, 3])
def test_blur_is_the_same_with_and_without_opencv(core, monkeypatch: pytest.MonkeyPatch, shape, radius: int) -> None:
    pytest.importorskip("cv2", reason="the way with OpenCV needs it: pip install opencv-python-headless")
    image_filter = core.image_filter

    picture = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    across = picture.transpose(1, 2)  # its rows are not in a row in memory
    found = [image_filter.gaussian_blur(one, radius, 0.7) for one in (picture, across)]
    assert image_filter._fits_opencv(picture)
    assert not image_filter._fits_opencv(picture.double())
    monkeypatch.setattr(image_filter, "_opencv", lambda: None)
    for one, blurred in zip((picture, across), found, strict=True):
        expected = image_filter.gaussian_blur(one, radius, 0.7)
        assert blurred.shape == expected.shape
        assert torch.allclose(blurred, expected, rtol=0, atol=1e-6)


def test_sharpen_leaves_a_flat_picture(run) -> None:
    flat = torch.full((1, 5, 5, 3), 0.3)
    assert torch.allclose(run("ImageSharpen", image=flat, sharpen_radius=1, sigma=1.0, alpha=1.0)[0], flat, atol=2e-6)


@pytest.mark.parametrize(
    ("mode", "expected"), [("normal", 0.8), ("multiply", 0.2), ("screen", 0.85), ("overlay", 0.4), ("difference", 0.0)]
)
def test_blend(run, mode: str, expected: float) -> None:
    one, other = torch.full((1, 2, 2, 3), 0.25), torch.full((1, 2, 2, 3), 0.8)
    mixed = run("ImageBlend", image1=one, image2=other, blend_factor=1.0, blend_mode=mode)[0]
    assert mixed[0, 0, 0, 0].item() == pytest.approx(expected, abs=1e-6)


def test_quantize_gives_at_most_so_many_colours(run) -> None:
    ramp = torch.linspace(0, 1, 64).view(1, 8, 8, 1).repeat(1, 1, 1, 3)
    for dither in ("none", "floyd-steinberg", "bayer-4"):
        few = run("ImageQuantize", image=ramp, colors=4, dither=dither)[0]
        assert few.shape == ramp.shape
        assert len(few.reshape(-1, 3).unique(dim=0)) <= 4


def test_canny_finds_the_border_of_a_square_and_nothing_else(run) -> None:
    square = torch.zeros(1, 24, 24, 3)
    square[:, 8:16, 8:16] = 1.0
    edges = run("Canny", image=square, low_threshold=0.2, high_threshold=0.8)[0]
    assert edges.shape == square.shape
    assert set(edges.unique().tolist()) == {0.0, 1.0}
    assert edges[0, 10:14, 10:14].sum() == 0
    assert edges[0, :6].sum() == 0
    assert edges[0, 12, :12, 0].sum() == 1  # one pixel wide


def test_canny_keeps_weak_edges_only_where_they_hang_together_with_strong_ones(run) -> None:
    step = torch.linspace(1.0, 0.1, 40)[:, None, None]  # a vertical edge that fades out downwards
    fading = torch.zeros(1, 40, 20, 3)
    fading[:, :, 10:] = step
    connected = run("Canny", image=fading, low_threshold=0.3, high_threshold=0.9)[0][0, ..., 0]
    strong = run("Canny", image=fading, low_threshold=0.9, high_threshold=0.9)[0][0, ..., 0]
    assert connected.sum() > strong.sum() > 0
    weak_alone = fading * 0.3
    assert run("Canny", image=weak_alone, low_threshold=0.3, high_threshold=0.9)[0].sum() == 0


def test_canny_refuses_thresholds_in_the_wrong_order(run) -> None:
    with pytest.raises(ValueError, match="low_threshold 0.9 is above high_threshold 0.1"):
        run("Canny", image=torch.zeros(1, 8, 8, 3), low_threshold=0.9, high_threshold=0.1)


def test_morphology_of_a_dot(run) -> None:
    dot = torch.zeros(1, 7, 7, 3)
    dot[:, 3, 3] = 1.0

    def bright(operation: str, size: int) -> int:
        return int(run("Morphology", image=dot, operation=operation, kernel_size=size)[0][..., 0].sum())

    assert bright("dilate", 3) == 9
    assert bright("dilate", 5) == 25
    assert bright("erode", 3) == 0
    assert bright("open", 3) == 0
    assert bright("close", 3) == 1
    assert bright("gradient", 3) == 9
    assert bright("top_hat", 3) == 1


def test_rgb_to_yuv_and_back(run) -> None:
    picture = torch.rand(1, 4, 5, 3, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(
        run("ImageYUVToRGB", **dict(zip("YUV", run("ImageRGBToYUV", image=picture), strict=True)))[0],
        picture,
        atol=1e-6,
    )


def test_pad_for_outpaint_feathers_towards_the_new_side(run) -> None:
    padded, mask = run(
        "ImagePadForOutpaint", image=torch.zeros(1, 6, 6, 3), left=2, top=0, right=0, bottom=0, feathering=2
    )
    assert padded.shape == (1, 6, 8, 3)
    assert grey(padded)[0] == [0.5, 0.5, 0, 0, 0, 0, 0, 0]
    assert mask[0, 0].tolist() == [1, 1, 1, 0.25, 0, 0, 0, 0]


def test_crop_flip_rotate(run) -> None:
    picture = image([[0.1, 0.2], [0.3, 0.4]])
    assert grey(run("ImageCrop", image=picture, width=1, height=9, x=1, y=0)[0]) == [[0.2], [0.4]]
    assert grey(run("ImageFlip", image=picture, flip_method="y-axis: horizontally")[0]) == [[0.2, 0.1], [0.4, 0.3]]
    assert grey(run("ImageRotate", image=picture, rotation="90 degrees")[0]) == [[0.3, 0.1], [0.4, 0.2]]


def test_stitch_with_a_gap(run) -> None:
    inputs = {"match_image_size": False, "spacing_width": 2, "spacing_color": "black"}
    both = run("ImageStitch", image1=image([[0.1]]), image2=image([[0.9]]), direction="left", **inputs)[0]
    assert grey(both) == [[0.9, 0.0, 0.0, 0.1]]


def test_split_and_merge_tiles_give_the_picture_back(run) -> None:
    picture = torch.rand(1, 100, 150, 3, generator=torch.Generator().manual_seed(2))
    tiles = run("SplitImageToTileList", image=picture, tile_width=64, tile_height=64, overlap=16)[0]
    merged = run("ImageMergeTileList", image_list=tiles, final_width=[150], final_height=[100], overlap=[16])[0]
    assert torch.allclose(merged, picture, atol=1e-5)


def test_noise_is_the_same_for_the_same_seed_and_leaves_the_global_generator_alone(run) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, again, other = (
        run("ImageAddNoise", image=torch.full((1, 8, 8, 3), 0.5), seed=s, strength=0.1)[0] for s in (1, 1, 2)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(torch.rand(3), expected)


def test_text_overlay_draws_in_the_named_half_only(run) -> None:
    black = torch.zeros(1, 80, 200, 3)
    style = {"font_size": 20.0, "color": "#ff0000", "align": "center", "outline": False}
    drawn = run("TextOverlay", images=black, text="Hello", position="bottom", **style)[0]
    assert drawn[0, :40].sum() == 0
    assert drawn[0, 40:, :, 0].max() == 1.0
    assert drawn[..., 1:].sum() == 0
    assert run("TextOverlay", images=black, text="  ", position="top", **style)[0] is black


def test_over_operator(run) -> None:
    red, blue = torch.zeros(1, 1, 1, 3), torch.zeros(1, 1, 1, 3)
    red[..., 0], blue[..., 2] = 1.0, 1.0
    half, opaque = torch.full((1, 1, 1), 0.5), torch.zeros(1, 1, 1)
    inputs = {"source": red, "source_alpha": half, "destination": blue, "destination_alpha": opaque}
    picture, mask = run("PorterDuffImageComposite", mode="SRC_OVER", **inputs)
    assert picture.flatten().tolist() == [0.5, 0.0, 0.5]
    assert mask.flatten().tolist() == [0.0]


def test_resize_node_takes_masks(run) -> None:
    size = {"resize_type": "scale dimensions", "width": 4, "height": 0, "crop": "disabled"}
    assert run("ResizeImageMaskNode", input=torch.ones(1, 4, 8), resize_type=size, scale_method="area")[0].shape == (
        1,
        2,
        4,
    )
    assert run("ResizeImageMaskNode", input=torch.ones(1, 1, 8), resize_type=size, scale_method="lanczos")[0].shape == (
        1,
        1,
        4,
    )
