from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from comfystream.errors import MediaError
from comfystream.media.colour import Colour, Matrix, colour_of, default_matrix
from comfystream.media.planes import byte_planes, packed_plane
from comfystream.media.scale import Scaler

torch = pytest.importorskip("torch")
from comfystream.media.convert import ImageWriter, TensorReader, to_image, to_tensor  # noqa: E402
from comfystream.media.image_writer import opencv  # noqa: E402

FORMATS = ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "nv12", "gray", "rgba", "gbrp", "bgr24"]
FORMATS += ["yuv420p10le", "p010le"]
COLOURS = [Colour(matrix, full) for matrix in Matrix for full in (False, True)]
PATHS = [pytest.param(True, id="opencv", marks=pytest.mark.skipif(opencv() is None, reason="OpenCV is not installed"))]
PATHS += [pytest.param(False, id="plain")]


def blocks(width: int, height: int) -> NDArray[np.float32]:
    """Random colours in blocks of 8 pixels, so that subsampled chroma can be compared inside them."""
    small = np.random.default_rng(1).random((-(-height // 8), -(-width // 8), 3), np.float32)
    return small.repeat(8, 0).repeat(8, 1)[:height, :width].copy()


def tagged(width: int, height: int, colour: Colour) -> av.VideoFrame:
    image = av.VideoFrame(width, height, "yuv420p")
    image.colorspace, image.color_range = colour.tags
    return image


def expected_luma(rgb: NDArray[np.float32], colour: Colour) -> NDArray[np.float64]:
    """ITU-T H.273: E'Y = Kr R + Kg G + Kb B, quantised to 16..235 or 0..255."""
    luma = np.round(rgb * 255) / 255 @ np.array(colour.matrix.weights)
    return luma * 255 if colour.full else 16 + 219 * luma


@pytest.mark.parametrize("colour", COLOURS, ids=str)
@pytest.mark.parametrize("use_opencv", PATHS)
def test_luma_follows_the_input_matrix_and_range(use_opencv: bool, colour: Colour) -> None:
    rgb = blocks(64, 48)
    image = ImageWriter(use_opencv).write(torch.from_numpy(rgb)[None], tagged(64, 48, colour))
    assert np.abs(byte_planes(image)[0] - expected_luma(rgb, colour)).max() < 1.01
    assert colour_of(image) == colour
    assert (int(image.colorspace), int(image.color_range)) == colour.tags


@pytest.mark.parametrize("colour", COLOURS, ids=str)
@pytest.mark.parametrize("size", [(64, 48), (33, 21), (2, 2), (640, 360)], ids=str)
@pytest.mark.parametrize("use_opencv", PATHS)
def test_there_and_back_keeps_colours(use_opencv: bool, size: tuple[int, int], colour: Colour) -> None:
    rgb = blocks(*size)
    image = ImageWriter(use_opencv).write(torch.from_numpy(rgb)[None], tagged(*size, colour))
    back = TensorReader().read(image)
    assert back.shape == (1, size[1], size[0], 3)
    assert back.dtype == torch.float32
    inner = (slice(2, 6), slice(2, 6)) if min(size) > 8 else (slice(0, 1), slice(0, 1))
    assert np.abs(back[0].numpy()[inner] - rgb[inner]).max() < 6 / 255


@pytest.mark.skipif(opencv() is None, reason="OpenCV is not installed")
def test_both_paths_agree() -> None:
    rgb = torch.from_numpy(blocks(128, 64))[None]
    first, second = (byte_planes(ImageWriter(way).write(rgb)) for way in (True, False))
    assert np.abs(first[0].astype(int) - second[0]).max() <= 1
    for one, other in zip(first[1:], second[1:], strict=True):
        assert np.abs(one.astype(int) - other)[1:3, 1:3].max() <= 2


@pytest.mark.parametrize("name", ["yuv420p10le", "p010le", "yuv422p10le", "yuv420p12le", "yuv420p"])
@pytest.mark.parametrize("width", [126, 127, 128, 129])
def test_colours_are_right_whatever_the_width_and_depth(name: str, width: int) -> None:
    rgb = blocks(width, 96)
    image = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb * 255).astype(np.uint8), "rgb24").reformat(format=name)
    y, x = np.mgrid[0:96, 0:width]
    inner = (x % 8 > 2) & (x % 8 < 5) & (y % 8 > 2) & (y % 8 < 5)
    assert np.abs(to_tensor(image)[0].numpy() - rgb)[inner].max() < 8 / 255


@pytest.mark.parametrize("use_opencv", PATHS)
def test_8_bit_values_survive_exactly(use_opencv: bool) -> None:
    values = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    image = av.VideoFrame.from_ndarray(values, "rgb24")
    tensor = to_tensor(image)
    assert np.array_equal(tensor[0].numpy(), values.astype(np.float32) / np.float32(255))
    back = ImageWriter(use_opencv).write(tensor, image, "rgb24")
    assert np.array_equal(packed_plane(back, 3), values)


@pytest.mark.parametrize("use_opencv", PATHS)
def test_values_out_of_range_are_clamped_and_nan_is_black(use_opencv: bool) -> None:
    row = [float("nan"), -0.5, -1e30, 2.0, 1e30, float("inf"), float("-inf"), 1.002, 0.5]
    tensor = torch.tensor(row)[None, None, :, None].expand(1, 4, len(row), 3)
    image = ImageWriter(use_opencv).write(tensor, format="rgb24")
    assert packed_plane(image, 3)[0, :, 0].tolist()[:8] == [0, 0, 0, 255, 255, 255, 0, 255]
    assert packed_plane(image, 3)[0, 8, 0] in (127, 128)


@pytest.mark.parametrize("use_opencv", PATHS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.uint8])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_dtype_and_channel_count(use_opencv: bool, dtype: torch.dtype, channels: int) -> None:
    one = 255 if dtype == torch.uint8 else 1.0
    tensor = torch.full((2, 6, 8, channels), one, dtype=dtype)
    tensor[1] = 0
    if channels == 4:
        tensor[..., 3] = 0
    image = ImageWriter(use_opencv).write(tensor)
    luma, cb, cr = byte_planes(image)
    assert (luma == 235).all()
    assert (cb == 128).all()
    assert (cr == 128).all()


@pytest.mark.parametrize("shape", [(4, 4), (1, 4, 4, 2), (0, 4, 4, 3), (1, 0, 4, 3), (1, 1, 4, 4, 3)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(MediaError, match="a picture must be"):
        to_image(torch.zeros(shape))


def test_time_and_tags_are_carried_over() -> None:
    like = tagged(16, 16, Colour(Matrix.BT2020))
    like.pts, like.time_base = 77, Fraction(1, 600)
    if hasattr(like, "color_trc"):
        like.color_trc, like.color_primaries = 16, 9
    image = to_image(torch.zeros(1, 16, 16, 3), like)
    assert (image.pts, image.time_base) == (like.pts, like.time_base)
    if hasattr(like, "color_trc"):
        assert (int(image.color_trc), int(image.color_primaries)) == (16, 9)


def test_an_upscaled_picture_keeps_the_matrix_of_its_input() -> None:
    image = to_image(torch.zeros(1, 1080, 1920, 3), tagged(640, 360, Colour(Matrix.BT601)))
    assert colour_of(image).matrix is Matrix.BT601
    assert default_matrix(1920, 1080) is Matrix.BT709
    assert default_matrix(720, 576) is Matrix.BT601


@pytest.mark.parametrize("use_opencv", PATHS)
def test_a_view_with_odd_strides_is_read_right(use_opencv: bool) -> None:
    rgb = blocks(32, 24)
    turned = torch.from_numpy(rgb).permute(1, 0, 2)[None]
    image = ImageWriter(use_opencv).write(turned, format="rgb24")
    assert np.array_equal(packed_plane(image, 3), np.round(rgb.transpose(1, 0, 2) * 255).astype(np.uint8))


def test_a_tensor_that_is_kept_does_not_change() -> None:
    reader = TensorReader()
    first = reader.read(av.VideoFrame.from_ndarray(np.full((8, 8, 3), 200, np.uint8), "rgb24"))
    kept = first.clone()
    reader.read(av.VideoFrame.from_ndarray(np.zeros((8, 8, 3), np.uint8), "rgb24"))
    assert torch.equal(first, kept)


@pytest.mark.parametrize("format", FORMATS)
def test_formats_that_decoders_give(format: str) -> None:
    rgb = (blocks(64, 48) * 0 + np.array([0.8, 0.2, 0.4], np.float32)).astype(np.float32)
    source = av.VideoFrame.from_ndarray(np.round(rgb * 255).astype(np.uint8), "rgb24")
    full = format.startswith(("yuvj", "gray"))
    image = Scaler().convert(source, format, colour=Colour(Matrix.BT601, full))
    tensor = TensorReader().read(image)[0].numpy()
    wanted = np.full(3, 0.8 * 0.299 + 0.2 * 0.587 + 0.4 * 0.114) if format == "gray" else rgb[0, 0]
    assert np.abs(tensor - wanted).max() < 4 / 255


def test_10_bit_steps_are_kept() -> None:
    image = av.VideoFrame(64, 16, "yuv420p10le")
    for plane, value in zip(image.planes, (0, 512, 512), strict=True):
        np.frombuffer(plane, np.uint16)[:] = value
    np.frombuffer(image.planes[0], np.uint16).reshape(16, -1)[:, :64] = 400 + np.arange(64)
    assert len(torch.unique(to_tensor(image)[0, 0, :, 1])) > 60
