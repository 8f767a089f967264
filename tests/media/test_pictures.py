"""Slate, pattern, numbered pictures, rotation by matrix."""

from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from comfystream.errors import MediaError
from comfystream.frames import VideoFrame
from comfystream.media.colour import Colour, Matrix
from comfystream.media.image_sink import ImageSequenceSink, is_image_pattern
from comfystream.media.pattern import draw_pattern, read_counter
from comfystream.media.planes import blank, byte_planes
from comfystream.media.rotation import display_steps
from comfystream.media.scale import Scaler
from comfystream.media.slate import slate


@pytest.mark.parametrize("size", [(512, 512), (1280, 720), (90, 160), (64, 64), (2, 2)], ids=str)
def test_a_slate_has_words_inside_its_border(size: tuple[int, int]) -> None:
    image = slate(*size, "Node 7 failed", ["ImageBlur: kernel size must be odd", "hint: use 3, 5 or 7"])
    assert (image.width, image.height, image.format.name) == (*size, "yuv420p")
    luma = byte_planes(image)[0]
    if min(size) > 60:
        assert (luma > 200).sum() > 20
        assert (luma[:, -2:] < 160).all()


@pytest.mark.parametrize("number", [0, 1, 0x5555, 0xAAAA, 0xFFFF, 65536 + 7])
@pytest.mark.parametrize("size", [(64, 64), (129, 95), (1280, 720)], ids=str)
def test_the_counter_survives_scaling_and_negatives(number: int, size: tuple[int, int]) -> None:
    image = draw_pattern(*size, number)
    assert read_counter(image) == number % 65536
    assert read_counter(Scaler().convert(image, "rgb24", (200, 150))) == number % 65536
    for plane in byte_planes(image):
        np.subtract(255, plane, out=plane)
    assert read_counter(image) == 65535 - number % 65536


def test_no_counter_no_number() -> None:
    assert read_counter(blank(64, 64, 120)) is None


def test_numbered_pictures(tmp_path: Path) -> None:
    sink = ImageSequenceSink(tmp_path / "out_%03d.png")
    for number in range(3):
        sink.write(VideoFrame(number, number, Fraction(1, 30), draw_pattern(127, 95, number)))
    assert sink.finish().frames == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out_001.png", "out_002.png", "out_003.png"]
    with Image.open(tmp_path / "out_003.png") as picture:
        assert picture.size == (127, 95)
    again = ImageSequenceSink(tmp_path / "out_%03d.png")
    with pytest.raises(MediaError, match="out_001.png exists already"):
        again.write(VideoFrame(0, 0, Fraction(1, 30), draw_pattern(64, 64, 0)))
    sink.abort()
    assert list(tmp_path.iterdir()) == []


def test_the_matrix_decides_the_colours_of_a_numbered_picture(tmp_path: Path) -> None:
    frame = VideoFrame(0, 0, Fraction(1, 30), draw_pattern(64, 64, 0))
    pixels = []
    for name, colour in (("a", Colour(Matrix.BT601)), ("b", Colour(Matrix.BT709))):
        frame.image.colorspace, frame.image.color_range = colour.tags
        ImageSequenceSink(tmp_path / f"{name}%d.png").write(replace(frame))
        with Image.open(tmp_path / f"{name}1.png") as picture:
            pixels.append(np.asarray(picture).astype(int))
    assert np.abs(pixels[0] - pixels[1]).max() > 5


@pytest.mark.parametrize("name", ["out.png", "out_%d.mp4", "%d_%d.png", "out_%s.png"])
def test_what_is_no_pattern(name: str) -> None:
    assert not is_image_pattern(name)


def test_display_matrices() -> None:
    one = 65536
    matrices = {
        (one, 0, 0, one): (),
        (0, one, -one, 0): (("transpose", "clock"),),
        (0, -one, one, 0): (("transpose", "cclock"),),
        (-one, 0, 0, -one): (("transpose", "clock"), ("transpose", "clock")),
        (-one, 0, 0, one): (("hflip", ""),),
        (one, 0, 0, -one): (("hflip", ""), ("transpose", "clock"), ("transpose", "clock")),
    }
    for (a, b, c, d), steps in matrices.items():
        assert display_steps(struct.pack("<9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)) == steps
    assert display_steps(None) == ()
